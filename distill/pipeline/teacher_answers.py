"""Asking the teacher about all that its student will see, and what that costs."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.progress import Progress, spoken
from curation.views import ImageSet
from distill.training.augment import AugmentSettings
from teachers.augment.augmentation import Augmentation, NumberedView
from teachers.cache_files import Precision
from teachers.embedder import CPU_BATCH, Embedder
from teachers.embedding_cache import Embeddings
from teachers.embeddings import Answers, cache_embeddings, missing_bytes, missing_pictures
from teachers.ensemble import Ensemble
from teachers.team import Team

_FEW = 2_000
"""Pictures that are asked about without a word of what it takes"""
_TRIED = 8
"""Pictures that the teacher is timed on, on the CPU; a GPU takes a batch"""
_TRIED_ON_GPU = 256
_TRIED_SECONDS, _MOST_TRIED = 1.5, 8
"""So long, or so often, is the teacher asked: one batch tells little on a busy machine."""


def asked_answers(
    images: ImageSet, augment: AugmentSettings, precision: Precision
) -> list[Answers]:
    """The plain pictures first, then each augmented view by its number."""
    augmentation = Augmentation(augment.strengths, images)
    views = [NumberedView(augmentation, number) for number in range(augment.answered or 0)]
    return [Answers(view, precision) for view in (None, *views)]


@dataclass(frozen=True)
class Question:
    """What the teacher is to be asked about ``images``, and where its answers are kept."""

    teacher: Embedder
    images: ImageSet
    cache_root: Path
    answers: list[Answers]

    def cost(self) -> str | None:
        """What is still to be asked, in a few words, with the time measured on a few pictures.

        None where it is next to nothing.
        """
        asked = (self.teacher, self.images, self.cache_root, self.answers)
        pictures = missing_pictures(*asked)
        if pictures < _FEW:
            return None
        size, kept = missing_bytes(*asked), self.answers[0].precision
        speed = pictures_per_second(self.teacher)
        return (
            f"the teacher is asked about {pictures:,} pictures of {len(self.images):,} images: "
            f"about {spoken(pictures / speed)} at {speed:,.0f} a second in one process, and "
            f"{_bytes(size)} more on the disk in {kept}"
        )

    def ask(self, progress: Progress, team: Team | None = None) -> list[Embeddings]:
        """The caches with every answer; ``progress`` counts images, over all of them.

        Ranks of several machines are a ``team``.
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
    """How many pictures the teacher answers, alone and without their decoding."""
    members = teacher.members if isinstance(teacher, Ensemble) else (teacher,)
    count = _TRIED_ON_GPU if teacher.on_gpu else min(_TRIED, CPU_BATCH)
    pictures = [np.zeros((count, *each.preprocessing.size, 3), np.uint8) for each in members]
    seconds = 0.0
    for each, batch in zip(members, pictures, strict=True):
        each.embed(batch[:1])
        began, asked = time.monotonic(), 0
        while not asked or (time.monotonic() - began < _TRIED_SECONDS and asked < _MOST_TRIED):
            each.embed(batch)
            asked += 1
        seconds += (time.monotonic() - began) / asked
    return count / max(seconds, 1e-9)


def share_below(
    caches: list[Embeddings], images: ImageSet, augment: AugmentSettings, most: int = 2048
) -> float:
    """The share of the views that ``least_cosine`` keeps from being used, of a sample of images."""
    chosen = np.random.default_rng(0).permutation(len(images))[:most]
    rows, augmentation = images.rows[np.sort(chosen)], Augmentation(augment.strengths, images)
    plain, below, held = caches[0].vectors(rows, slice(None)).astype(np.float32), 0, 0
    for number, cache in enumerate(caches[1:]):
        beside = plain[np.arange(len(rows)), augmentation.mirrored(rows, number).astype(np.int64)]
        cosines = (cache.vectors(rows, 0).astype(np.float32) * beside).sum(axis=1)
        single = ~augmentation.mixed(rows, number)
        below += int((cosines[single] < augment.least_cosine).sum())
        held += int(single.sum())
    return below / max(1, held)


def _bytes(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
