"""Computing the teacher's embeddings of everything that its student will see, and their cost."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.bad_images import read_pixels
from curation.progress import Progress, spoken
from curation.views import ImageSet
from distill.notices import Notice
from distill.resources import in_megabytes
from distill.training.augment import AugmentSettings
from distill.training.views import PLAIN
from teachers.augment.augmentation import Augmentation, NumberedView
from teachers.cache_files import Precision
from teachers.embedder import CPU_BATCH, Embedder, unit_and_norm
from teachers.embedding_cache import Embeddings
from teachers.embeddings import Answers, cache_embeddings, missing_bytes, missing_pictures
from teachers.ensemble import Ensemble
from teachers.team import Team
from teachers.usable import check_embeddings

_SAMPLE, _SAMPLE_ONLINE = 2_048, 64
"""Number of images whose rejected views are counted, from caches and with an online teacher"""
_MANY_REJECTED = 0.5
"""Share of rejected views from which the job warns"""
_FEW = 2_000
"""Number of images below which the cost is not reported"""
_TRIED = 8
"""Images on which the teacher is timed on the CPU; on a GPU, a full batch"""
_TRIED_ON_GPU = 256
_TRIED_SECONDS, _MOST_TRIED = 1.5, 8
"""Limits of the timing: a single batch is not reliable on a busy machine."""


def required_answers(
    images: ImageSet, augment: AugmentSettings, precision: Precision
) -> list[Answers]:
    """The plain images first, then each augmented view by number."""
    augmentation = Augmentation(augment.strengths, images)
    views = [NumberedView(augmentation, number) for number in range(augment.answered or 0)]
    return [Answers(view, precision) for view in (None, *views)]


@dataclass(frozen=True)
class Question:
    """The embeddings that the teacher must compute for ``images``, and where they are stored."""

    teacher: Embedder
    images: ImageSet
    cache_root: Path
    answers: list[Answers]

    def cost(self) -> str | None:
        """A short description of the remaining work, with the time measured on a few images.

        None if the work is negligible.
        """
        arguments = (self.teacher, self.images, self.cache_root, self.answers)
        pictures = missing_pictures(*arguments)
        if pictures < _FEW:
            return None
        size, kept = missing_bytes(*arguments), self.answers[0].precision
        speed = pictures_per_second(self.teacher)
        return (
            f"the teacher embeds {pictures:,} views of {len(self.images):,} images: "
            f"about {spoken(pictures / speed)} at {speed:,.0f} a second in one process, and "
            f"{in_megabytes(size)} more on the disk in {kept}"
        )

    def ask(self, progress: Progress, team: Team | None = None) -> list[Embeddings]:
        """The complete caches; ``progress`` counts images over all of them.

        Ranks of several machines form a ``team``.
        """
        caches: list[Embeddings] = []
        total = len(self.answers)

        def tell(done: int, of: int) -> None:
            progress(len(caches) * of + done, total * of)

        for each in self.answers:
            caches.append(
                cache_embeddings(self.teacher, self.images, self.cache_root, tell, team, each)
            )
        return caches


def pictures_per_second(teacher: Embedder) -> float:
    """The teacher's speed, excluding decoding."""
    members = teacher.members if isinstance(teacher, Ensemble) else (teacher,)
    count = _TRIED_ON_GPU if teacher.on_gpu else min(_TRIED, CPU_BATCH)
    pictures = [np.zeros((count, *each.preprocessing.size, 3), np.uint8) for each in members]
    seconds = 0.0
    for each, batch in zip(members, pictures, strict=True):
        each.embed(batch[:1])
        began, tried = time.monotonic(), 0
        while not tried or (time.monotonic() - began < _TRIED_SECONDS and tried < _MOST_TRIED):
            each.embed(batch)
            tried += 1
        seconds += (time.monotonic() - began) / tried
    return count / max(seconds, 1e-9)


def share_below(caches: list[Embeddings], images: ImageSet, augment: AugmentSettings) -> float:
    """The share of views that ``least_cosine`` rejects, in a sample of images."""
    augmentation = Augmentation(augment.strengths, images)
    rows = images.rows[_sample(images, _SAMPLE)]
    plain, below, held = caches[0].vectors(rows, slice(None)).astype(np.float32), 0, 0
    for number, cache in enumerate(caches[1:]):
        unchanged = plain[
            np.arange(len(rows)), augmentation.mirrored(rows, number).astype(np.int64)
        ]
        cosines = (cache.vectors(rows, 0).astype(np.float32) * unchanged).sum(axis=1)
        single = ~augmentation.mixed(rows, number)
        below += int((cosines[single] < augment.least_cosine).sum())
        held += int(single.sum())
    return below / max(1, held)


def share_below_online(teacher: Embedder, images: ImageSet, augment: AugmentSettings) -> float:
    """``share_below`` without caches: one view of each of a few images."""
    augmentation, below, held = Augmentation(augment.strengths, images), 0, 0
    for index in _sample(images, _SAMPLE_ONLINE).tolist():
        row = images.rows[[index]]
        if augmentation.mixed(row, 0)[0]:
            continue
        picture, (change,) = read_pixels(images, index), augmentation.changes(row, 0)
        plain = picture[:, ::-1] if change.mirrored else picture
        both = np.stack([plain, augmentation.view(picture, change)])
        raw = check_embeddings(
            teacher.embed(both), images, np.array([index, index]), np.array([PLAIN, 0])
        )
        found, unchanged = unit_and_norm(raw)[0].astype(np.float32)
        below += int(found @ unchanged < augment.least_cosine)
        held += 1
    return below / max(1, held)


def of_rejected(share: float, augment: AugmentSettings) -> tuple[str, list[Notice]]:
    """A short note about the ``share`` of rejected views, and a warning if it is large."""
    note = f"{share:.1%} of the augmented views do not resemble the image"
    if share < _MANY_REJECTED:
        return note, []
    text = (
        f"{note}: the teacher's embeddings have a cosine below augment.least_cosine = "
        f"{augment.least_cosine:g}, and the student sees the plain image instead; look at the "
        "views with `distill views`, then weaken the changes or lower least_cosine"
    )
    return note, [Notice("rejected views", text)]


def _sample(images: ImageSet, most: int) -> np.ndarray:
    """Positions int64 [n] in ``images``, in order."""
    return np.sort(np.random.default_rng(0).permutation(len(images))[:most])
