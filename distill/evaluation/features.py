"""Features of encoded images, computed with one batch of pixels in memory at a time."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil

from curation.errors import UserError
from curation.images import decode
from curation.progress import Progress
from teachers.embedder import CPU_BATCH, Embedder, normalise, sum_mirrored
from teachers.usable import UnusableEmbeddingsError

BATCH = 128
ROWS = 1 << 14
"""Features that are processed together"""
_SAME = 1e-6
"""Features that differ by less are equal: the rounding of float32"""


@dataclass(frozen=True)
class Embedded:
    """Unit features [N, D], float32, and their original norms [N], which reflect face quality."""

    unit: np.ndarray
    norms: np.ndarray

    def at(self, places: Sequence[int] | np.ndarray | slice) -> "Embedded":
        return Embedded(self.unit[places], self.norms[places])


@dataclass(frozen=True)
class Share:
    """The share of one of ``ranks`` processes; ``gather`` collects the features of all of them."""

    rank: int = 0
    ranks: int = 1
    gather: Callable[[Callable[[], Embedded]], list[Embedded]] = lambda own: [own()]

    def of(self, count: int, rank: int) -> np.ndarray:
        """The images of a rank among 0 to ``count`` - 1: whole batches, assigned round robin.

        Batches do not depend on the number of processes, so neither do the results.
        """
        return np.flatnonzero(np.arange(count) // BATCH % self.ranks == rank)


ALONE = Share()


class KeptParts(Protocol):
    """Stored batches of features; see `distill.evaluation.embedded_parts`."""

    def restore(self, found: Embedded) -> int:
        """Copy the stored features into ``found`` and return the number of images."""
        ...

    def append(self, part: Embedded) -> None:
        """Store another batch."""
        ...


def embed_pixels(
    embedder: Embedder,
    pixels: Callable[[int], np.ndarray],
    numbers: Sequence[int],
    progress: Progress | None = None,
    share: Share = ALONE,
    kept: KeptParts | None = None,
) -> Embedded:
    """Embed the images ``pixels(i) for i in numbers``, uint8 RGB of any size.

    ``progress`` counts the images of this process only. ``kept`` has the features that an
    interrupted process stored for the same images; it cannot be combined with a ``share``.
    """
    own = [numbers[place] for place in share.of(len(numbers), share.rank).tolist()]
    made = share.gather(lambda: _embed_batches(embedder, pixels, own, progress, kept))
    whole = _nothing_yet(len(numbers), embedder.embedding)
    for rank, part in enumerate(made):
        places = share.of(len(numbers), rank)
        whole.unit[places], whole.norms[places] = part.unit, part.norms
    return whole


def _nothing_yet(count: int, embedding: int) -> Embedded:
    return Embedded(np.empty((count, embedding), np.float32), np.empty(count, np.float32))


def _embed_batches(
    embedder: Embedder,
    pixels: Callable[[int], np.ndarray],
    numbers: Sequence[int],
    progress: Progress | None,
    kept: KeptParts | None,
) -> Embedded:
    found = _nothing_yet(len(numbers), embedder.embedding)
    for start in range(0 if kept is None else kept.restore(found), len(numbers), BATCH):
        batch = [
            # Resize one by one, because the images of a set may differ in size.
            embedder.preprocessing.resize(pixels(i)[None])
            for i in numbers[start : start + BATCH]
        ]
        part = slice(start, start + len(batch))
        # Embeddings that are not finite are refused once all are known: see `check_usable`.
        with np.errstate(invalid="ignore", over="ignore"):
            raw = sum_mirrored(embedder, np.concatenate(batch))
            found.unit[part], found.norms[part] = normalise(raw), np.linalg.norm(raw, axis=1)
        if kept is not None:
            kept.append(found.at(part))
        if progress:
            progress(start + len(batch), len(numbers))
    return found


def embed_distinct(
    embedder: Embedder,
    images: Sequence[bytes],
    what: str,
    progress: Progress | None = None,
    share: Share = ALONE,
    kept: KeptParts | None = None,
) -> Embedded:
    """Embed encoded images, repeated ones only once.

    Verification sets repeat images: the 12,000 images of the LFW pairs are 7,701 distinct ones.
    """
    first: dict[bytes, int] = {}
    for number, image in enumerate(images):
        first.setdefault(image, number)
    numbers = list(first.values())
    found = embed_pixels(
        embedder, lambda i: decode(images[i], f"{what}, image {i}"), numbers, progress, share, kept
    )
    row = {number: row for row, number in enumerate(numbers)}
    return found.at([row[first[image]] for image in images])


def mirrored_seconds(embedder: Embedder) -> float:
    """Seconds to embed one image of an evaluation set together with its mirror image."""
    count = BATCH if embedder.on_gpu else CPU_BATCH
    pictures = np.zeros((count, *embedder.preprocessing.size, 3), np.uint8)
    sum_mirrored(embedder, pictures[:1])
    began = time.monotonic()
    sum_mirrored(embedder, pictures)
    return (time.monotonic() - began) / count


def check_memory(path: Path, what: str, numbers: int) -> None:
    """Raise `UserError` if the float32 ``numbers`` of a file do not fit into the free memory."""
    needed, free = 4 * numbers, psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{path}: {what} takes {needed / 2**30:.1f} GiB of memory as float32, and "
            f"{free / 2**30:.1f} GiB are free; evaluate a view with fewer images"
        )


def check_usable(unit: np.ndarray, of: str, row: str, advice: str, distinct: bool = True) -> None:
    """Raise `UnusableEmbeddingsError` if features [N, D] have no unit length or are all equal.

    The message names the set (``of``), the first broken ``row``, and gives ``advice``. Features of
    images that are not ``distinct`` may be equal.
    """
    broken = np.concatenate(
        [~(np.linalg.norm(part, axis=1) > 0.5) for part in _parts(unit)] or [np.zeros(0, bool)]
    )
    if broken.any():
        reason = (
            f"{row} {np.argmax(broken)} is zero or not finite ({broken.sum():,} of {len(unit):,} "
            f"are)"
        )
    elif distinct and len(unit) > 1 and all(_equals(part, unit[0]) for part in _parts(unit)):
        reason = f"all {len(unit):,} images have the same embedding"
    else:
        return
    raise UnusableEmbeddingsError(f"{of}: {reason}; {advice}")


def _parts(unit: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(unit), ROWS):
        yield np.asarray(unit[start : start + ROWS], np.float32)


def _equals(part: np.ndarray, first: np.ndarray) -> bool:
    return bool(np.abs(part - first).max() < _SAME)
