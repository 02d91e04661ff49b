"""Duplicate images: the same file, or the same photograph saved, cropped or rotated again.

Candidates are pairs with similar embeddings within an identity; unlabelled images are compared with
all. The pixels decide, because two photographs of one sitting can have similar embeddings. The
images are aligned (also mirrored; small shifts, rotations and scalings), and their fine detail is
correlated, which is invariant to brightness and contrast: two photographs of one head share its
shape, but not every hair.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from curation.bad_images import bad_image
from curation.errors import UserError
from curation.image_set import ImageSet
from curation.images import decode
from curation.neighbours import blocks
from curation.noise.check import Context, NoiseCheck, check
from curation.noise.embedded import EmbeddedImages
from curation.noise.findings import Finding, FindingsMeta, require_indices
from curation.noise.identity_prototypes import identities_of
from curation.noise.label_errors import BLOCK, LabelErrors
from curation.noise.presentation import Evidence, Explanation, ScoredSubject, ShownFace
from curation.progress import Progress
from curation.unlabelled import EachAlone
from curation.wording import decimal

CANDIDATE_COSINE = 0.85
SAME_CORRELATION = 0.97
"""Minimum correlation of the fine detail. A photograph saved or rotated again reaches 0.99; two
photographs of one sitting stay below 0.96
"""
_ALIKE_AT_ALL = 0.85
"""Coarse correlation below which images are not aligned"""
_NEAREST = 8
"""Identities whose images an unlabelled image is compared with"""
_SIDE, _EDGE, _SHIFT = 64, 6, 4
_FINE, _DETAIL = 0.9, 3.0
"""Gaussian widths in pixels: for smoothing before reduction, and for separating the fine detail"""
_LARGEST_SQUARE = 2048
_KEPT = 8192
"""Reduced images in memory, 16 KiB each: those of the largest identities"""


@check(
    "duplicate",
    "image",
    order=40,
    precedence=30,
    explanation=Explanation(
        "Duplicate images",
        "Two images of an identity are the same photograph, perhaps scaled, recoloured or "
        "compressed again.",
        "Only copies of the same photograph are duplicates; two photographs of one session are "
        "not.",
        "The copy is left out, the other image is kept.",
    ),
)
class Duplicate(NoiseCheck):
    """Photographs that the set contains twice."""

    scores_all = False  # only the copies

    def score(self, context: Context, progress: Progress | None = None) -> Finding:
        """Evidence: of (the image kept), similarity (cosine), difference (1 - correlation of the
        pixels).
        """
        found = find_duplicates(context.images, context.embedded, context.label_errors, progress)
        images = np.array([one.image for one in found], np.int64)
        correlation = np.array([one.correlation for one in found], np.float32)
        evidence: dict[str, np.ndarray] = {
            "of": np.array([one.original for one in found], np.int64),
            "similarity": np.array([one.cosine for one in found], np.float32),
            "difference": 1.0 - correlation,
        }
        summary = f"{len(images):,} of {len(context.embedded):,} images are copies of another image"
        return self.finding(np.clip(correlation, 0.0, 1.0), evidence, summary, images)

    def verify(self, finding: Finding, meta: FindingsMeta) -> None:
        require_indices(finding, "of", meta.images)

    def note(self, finding: Finding, at: int) -> str:
        return f"repeats image {finding.evidence['of'][at]}"

    def evidence(self, one: ScoredSubject) -> Evidence:
        kept = one.named("of")
        reason = (
            f"Similarity {decimal(one.number('similarity'))}, difference of pixels "
            f"{decimal(one.number('difference'))} (0: the same); in {one.name(one.identity)}."
        )
        faces = (ShownFace(one.index, "copy"), ShownFace(kept, "kept", is_suspect=False))
        return Evidence(f"Image {one.index} repeats image {kept}", reason, faces, ())


@dataclass(frozen=True)
class DuplicatePair:
    """Image ``image`` shows the same photograph as ``original``."""

    image: int
    original: int
    cosine: float
    correlation: float


def find_duplicates(
    images: ImageSet,
    embedded: EmbeddedImages,
    label_errors: LabelErrors,
    progress: Progress | None = None,
) -> list[DuplicatePair]:
    """Compare the pixels of all candidates; progress counts pairs.

    The original of a photograph is an image with a correct label, if any; of those, the one with
    the longest embedding, then the first.
    """
    lone = images.lone if isinstance(images, EachAlone) else np.zeros(0, np.int64)
    pairs = sorted({*candidates(embedded, label_errors), *near_lone(embedded, label_errors, lone)})
    lengths = embedded.lengths()
    # Pairs are sorted, so the images of an identity are compared one after another.
    grey = lru_cache(_KEPT)(partial(_reduced_image, images))
    same: list[tuple[int, int, float, float]] = []
    for done, (first, second, cosine) in enumerate(pairs):
        if progress is not None and done % 64 == 0:
            progress(done, len(pairs))
        correlation = likeness(grey(first), grey(second))
        if correlation >= SAME_CORRELATION:
            same.append((first, second, cosine, correlation))
    return list(_originals(same, lengths, label_errors.probability <= 0.5))


def candidates(
    embedded: EmbeddedImages, label_errors: LabelErrors
) -> Iterator[tuple[int, int, float]]:
    """Pairs of images (smaller index first) with similar embeddings.

    Both are in one identity, or one is a probable label error and the other in its relabel
    candidate.
    """
    for _, which, vectors in identities_of(embedded):
        for first in range(0, len(vectors), _LARGEST_SQUARE):
            cosines = np.triu(vectors[first : first + _LARGEST_SQUARE] @ vectors.T, first + 1)
            for i, j in np.argwhere(cosines > CANDIDATE_COSINE):
                yield which.start + first + int(i), which.start + int(j), float(cosines[i, j])
    doubtful = (label_errors.probability > 0.5) & (label_errors.candidate >= 0)
    for image in np.flatnonzero(doubtful).tolist():
        vector = embedded.vectors(np.array([image]))[0]
        yield from _near_in(embedded, int(label_errors.candidate[image]), image, vector)


def near_lone(
    embedded: EmbeddedImages, label_errors: LabelErrors, lone: np.ndarray
) -> Iterator[tuple[int, int, float]]:
    """Pairs like those of ``candidates``, of the unlabelled images ``lone`` with similar images."""
    for block in blocks(len(lone), BLOCK):
        vectors = embedded.vectors(lone[block])
        _, near = label_errors.search.search(vectors, _NEAREST)
        for image, vector, identities in zip(lone[block].tolist(), vectors, near, strict=True):
            for identity in identities[identities >= 0].tolist():
                yield from _near_in(embedded, identity, image, vector)


def _near_in(
    embedded: EmbeddedImages, identity: int, image: int, vector: np.ndarray
) -> Iterator[tuple[int, int, float]]:
    """Pairs of ``image``, whose embedding is ``vector``, with similar images of an identity."""
    which = embedded.images_of(identity)
    cosines = embedded.vectors(which) @ vector
    for j in np.flatnonzero(cosines > CANDIDATE_COSINE).tolist():
        if image != which.start + j:
            yield (*sorted((image, which.start + j)), float(cosines[j]))


def _reduced_image(images: ImageSet, image: int) -> np.ndarray:
    try:
        return reduced(images.read(image))
    except UserError as error:
        raise bad_image(images, image, error) from None


def reduced(data: bytes) -> np.ndarray:
    """The image in grey, smoothed and reduced: float32 ``[64, 64]``."""
    import cv2

    grey = cv2.cvtColor(decode(data), cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth = cv2.GaussianBlur(grey, (0, 0), _FINE)
    return cv2.resize(smooth, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation of the fine detail of two reduced images after alignment,
    possibly mirrored.
    """
    mirrored = np.ascontiguousarray(second[:, ::-1])
    return max(_likeness_unmirrored(first, one) for one in (second, mirrored))


def _likeness_unmirrored(first: np.ndarray, second: np.ndarray) -> float:
    import cv2

    inner = np.ascontiguousarray(second[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT])
    if first.std() < 1.0 or inner.std() < 1.0:  # nothing to correlate
        return float(np.abs(first - second).max() < 2.0)
    if cv2.matchTemplate(first, inner, cv2.TM_CCOEFF_NORMED).max() < _ALIKE_AT_ALL:
        return 0.0
    plain = _correlation(_detail(first), _detail(second))
    return plain if plain >= SAME_CORRELATION else max(plain, _aligned_likeness(first, second))


def _aligned_likeness(first: np.ndarray, second: np.ndarray) -> float:
    """The correlation after the best affine alignment (ECC, Evangelidis and Psarakis 2008)."""
    import cv2

    move = np.eye(2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-3)
    try:
        cv2.findTransformECC(first, second, move, cv2.MOTION_AFFINE, criteria)
    except cv2.error:  # no convergence: nothing in common
        return 0.0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(second, move, (_SIDE, _SIDE), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return _correlation(_detail(first), _detail(moved))


def _detail(picture: np.ndarray) -> np.ndarray:
    """Detail finer than the shape of a head, without the border, where images are cropped."""
    import cv2

    fine = picture - cv2.GaussianBlur(picture, (0, 0), _DETAIL)
    return fine[_EDGE:-_EDGE, _EDGE:-_EDGE]


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    return float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum() + 1e-9))


def _originals(
    same: list[tuple[int, int, float, float]], lengths: np.ndarray, in_place: np.ndarray
) -> Iterator[DuplicatePair]:
    """Yield each duplicate once, with the best image of its photograph."""
    group: dict[int, set[int]] = {}
    for first, second, _, _ in same:
        together = group.get(first, {first}) | group.get(second, {second})
        group.update(dict.fromkeys(together, together))
    best: dict[int, tuple[float, float]] = {}
    for first, second, cosine, correlation in same:
        for image in (first, second):
            best[image] = max(best.get(image, (-1.0, -1.0)), (correlation, cosine))
    for image in sorted(group):
        original = max(group[image], key=lambda i: (in_place[i], lengths[i], -i))
        if image != original:
            correlation, cosine = best[image]
            yield DuplicatePair(image, original, cosine, correlation)
