"""Pictures that are there twice: the same file, or the same photograph saved, cut or turned again.

Embeddings name the candidates, cheaply; pixels decide, because two photographs of one sitting can
embed alike. The pictures are laid over each other (the mirror too, and small shifts, turns and
changes of scale) and correlated, which brightness and contrast do not disturb.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from curation.images import decode
from curation.noise.embedded import EmbeddedImages
from curation.noise.membership import Membership, identities_of
from curation.progress import Progress
from curation.store import ImageSet

CANDIDATE_COSINE = 0.85
SAME_CORRELATION = 0.97
"""Above it two pictures are one photograph; two photographs of one sitting stay below"""
_ALIGN_FROM = 0.85
_SIDE, _MARGIN = 48, 3
_LARGEST_SQUARE = 2048


@dataclass(frozen=True)
class Repetition:
    """Image ``image`` shows the photograph of ``original``."""

    image: int
    original: int
    cosine: float
    correlation: float


def find_repetitions(
    images: ImageSet,
    embedded: EmbeddedImages,
    membership: Membership,
    progress: Progress | None = None,
) -> list[Repetition]:
    """Compare the pixels of all candidates; progress counts pairs.

    Of each photograph the picture with the longest embedding, then the first, is the original.
    """
    pairs = list(candidates(embedded, membership))
    lengths = embedded.lengths()
    grey: dict[int, np.ndarray] = {}
    same: list[tuple[int, int, float, float]] = []
    for done, (first, second, cosine) in enumerate(pairs):
        if progress is not None and done % 64 == 0:
            progress(done, len(pairs))
        for image in (first, second):
            if image not in grey:
                grey[image] = reduced(images.read(image))
        correlation = likeness(grey[first], grey[second])
        if correlation >= SAME_CORRELATION:
            same.append((first, second, cosine, correlation))
        if len(grey) > 50_000:
            grey.clear()
    return list(_originals(same, lengths))


def candidates(
    embedded: EmbeddedImages, membership: Membership
) -> Iterator[tuple[int, int, float]]:
    """Pairs of images (smaller index first) that embed alike: in one identity, and between an image
    that seems misplaced and the identity it resembles."""
    for _, which, vectors in identities_of(embedded):
        for first in range(0, len(vectors), _LARGEST_SQUARE):
            cosines = np.triu(vectors[first : first + _LARGEST_SQUARE] @ vectors.T, first + 1)
            for i, j in np.argwhere(cosines > CANDIDATE_COSINE):
                yield which.start + first + int(i), which.start + int(j), float(cosines[i, j])
    doubtful = (membership.probability > 0.5) & (membership.other >= 0)
    for image in np.flatnonzero(doubtful).tolist():
        which = embedded.images_of(int(membership.other[image]))
        cosines = embedded.vectors(which) @ embedded.vectors(np.array([image]))[0]
        for j in np.flatnonzero(cosines > CANDIDATE_COSINE).tolist():
            yield (*sorted((image, which.start + j)), float(cosines[j]))


def reduced(data: bytes) -> np.ndarray:
    """The picture in grey, smoothed and small: float32 ``[48, 48]``."""
    import cv2

    grey = cv2.cvtColor(decode(data), cv2.COLOR_RGB2GRAY).astype(np.float32)
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    return cv2.resize(smooth, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def likeness(first: np.ndarray, second: np.ndarray) -> float:
    """The highest correlation of two reduced pictures, shifted, mirrored, and finely aligned."""
    best = -1.0
    for candidate in (second, np.ascontiguousarray(second[:, ::-1])):
        shifted = _shifted_likeness(first, candidate)
        if _ALIGN_FROM < shifted < SAME_CORRELATION:
            shifted = max(shifted, _aligned_likeness(first, candidate))
        best = max(best, shifted)
    return best


def _shifted_likeness(first: np.ndarray, second: np.ndarray) -> float:
    import cv2

    inner = np.ascontiguousarray(second[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])
    if first.std() < 1.0 or inner.std() < 1.0:
        return float(np.abs(first - second).max() < 2.0)
    return float(cv2.matchTemplate(first, inner, cv2.TM_CCOEFF_NORMED).max())


def _aligned_likeness(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation after the best turn, scale and shift (ECC, Evangelidis and Psarakis 2008)."""
    import cv2

    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 1e-3)
    try:
        return float(
            cv2.findTransformECC(
                first, second, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, criteria
            )[0]
        )
    except cv2.error:  # it did not converge: nothing in common
        return -1.0


def _originals(
    same: list[tuple[int, int, float, float]], lengths: np.ndarray
) -> Iterator[Repetition]:
    """Each repeated picture once, beside the best of its photograph."""
    group: dict[int, set[int]] = {}
    for first, second, _, _ in same:
        together = group.get(first, {first}) | group.get(second, {second})
        group.update(dict.fromkeys(together, together))
    best: dict[int, tuple[float, float]] = {}
    for first, second, cosine, correlation in same:
        for image in (first, second):
            best[image] = max(best.get(image, (-1.0, -1.0)), (correlation, cosine))
    for image in sorted(group):
        original = max(group[image], key=lambda i: (lengths[i], -i))
        if image != original:
            correlation, cosine = best[image]
            yield Repetition(image, original, cosine, correlation)
