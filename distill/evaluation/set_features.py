"""Unit features of evaluation sets, computed by a network and cached."""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from curation.arrays import read_array, write_array
from curation.files import UnreadableError, atomic_file, can_make_files
from curation.image_set import ImageSet
from curation.images import check_some_pixels, decode
from curation.pairs import VerificationPairs
from curation.progress import Progress
from distill.evaluation.embedded_parts import EmbeddedParts, held_parts
from distill.evaluation.features import (
    ALONE,
    Embedded,
    Share,
    check_usable,
    embed_distinct,
    embed_pixels,
)
from distill.evaluation.protocols.protocol import ProtocolSet, open_named
from distill.evaluation.set_source import SetSource
from teachers.embedder import Embedder
from teachers.usable import UnusableEmbeddingsError

EvaluationSet = VerificationPairs | ImageSet | ProtocolSet
FEATURES = "features"
"""The folder in a workspace's cache for features"""
MOST_KEPT_BYTES = 1 << 33
"""The largest cached set: 4 million images with 512 dimensions. Larger ones are recomputed."""


def open_sets(sources: Sequence[SetSource], protocols: Sequence[str] = ()) -> list[EvaluationSet]:
    """Open sets of pairs or images, and then protocols named NAME:FOLDER, in order."""
    return [*(each.open() for each in sources), *map(open_named, protocols)]


class SetFeatures(Protocol):
    """The features of sets, from a network with the digests ``embedder`` and ``preprocessing``."""

    @property
    def embedder(self) -> str: ...

    @property
    def preprocessing(self) -> str: ...

    def features(self, each: EvaluationSet, progress: Progress | None = None) -> np.ndarray:
        """Unit features, float32 [N, D], of a set's images, in order; two per pair in a pair set.

        Raises `UnusableEmbeddingsError` if one is zero or not finite, or if all are equal.
        """
        ...

    def embedded(self, each: EvaluationSet, progress: Progress | None = None) -> Embedded:
        """The `features` with their original norms."""
        ...

    def check(self, each: EvaluationSet) -> None:
        """Raise `UserError` if a set cannot be embedded, before a network runs."""
        ...


class NetworkFeatures:
    """Features of a network, summed with those of the mirrored image; cached in a folder ``kept``.

    Those of a network without a digest are not cached. Features are written as they are computed,
    so that an interrupted command can resume. A process waits for another that embeds the same set.
    Several processes can ``share`` the images of a set if nothing is cached.
    """

    def __init__(self, network: Embedder, kept: Path | None = None, share: Share = ALONE) -> None:
        assert kept is None or share is ALONE, "parts of a set are kept by one process"
        self.embedder, self.preprocessing = network.digest, network.preprocessing.digest
        self._network, self._kept, self._share = network, kept, share

    def features(self, each: EvaluationSet, progress: Progress | None = None) -> np.ndarray:
        path = self._path(each)
        known = None if path is None else _read_features(path, self._shape(each))
        if known is None or not _is_usable(known, each):
            return self.embedded(each, progress).unit
        _report_done(each, progress)
        return known

    def embedded(self, each: EvaluationSet, progress: Progress | None = None) -> Embedded:
        path = self._path(each)
        known = None if path is None else self._known(each, path)
        if known is not None:
            _report_done(each, progress)
            return known
        if path is None:
            return self._embed(each, progress, None)
        return self._made(each, path, progress)

    def check(self, each: EvaluationSet) -> None:
        if isinstance(each, ProtocolSet):
            each.faces.check_there()  # before its fingerprint is asked for
        if not self.knows(each):
            check_embeddable(each)

    def knows(self, each: EvaluationSet) -> bool:
        """Whether the features of the set are cached."""
        path = self._path(each)
        return path is not None and path.is_file()

    def _known(self, each: EvaluationSet, path: Path) -> Embedded | None:
        unit = _read_features(path, self._shape(each))
        norms = _read_features(_norms_of(path), (image_count(each),))
        if unit is None or norms is None or not _is_usable(unit, each):
            return None
        return Embedded(unit, norms)

    def _made(self, each: EvaluationSet, path: Path, progress: Progress | None) -> Embedded:
        total = distinct_images(each)

        def waiting(images: int) -> None:
            if progress:
                progress(min(images, total), total)

        if not _can_keep(path.parent):
            return self._embed(each, progress, None)
        with held_parts(path.with_suffix(".part"), self._network.embedding, waiting) as parts:
            known = self._known(each, path)  # another process may have written them meanwhile
            if known is None:
                with _removed_if_unusable(parts):
                    known = self._embed(each, progress, parts)
                _write_features(path, known)
            parts.remove()
        return known

    def _shape(self, each: EvaluationSet) -> tuple[int, int]:
        return image_count(each), self._network.embedding

    def _embed(
        self, each: EvaluationSet, progress: Progress | None, parts: EmbeddedParts | None
    ) -> Embedded:
        options = (progress, self._share, parts)
        if isinstance(each, VerificationPairs):
            found = embed_distinct(self._network, each.images, each.name, *options)
        else:
            pixels = each.faces.pixels if isinstance(each, ProtocolSet) else _pixels_of(each)
            found = embed_pixels(self._network, pixels, range(image_count(each)), *options)
        _check_usable(found.unit, each)
        return found

    def _path(self, each: EvaluationSet) -> Path | None:
        size = kept_bytes(each, self._network.embedding)
        if self._kept is None or not self.embedder or not size:
            return None
        network = f"{self.embedder[:16]}-{self.preprocessing[:16]}"
        name = each.faces.fingerprint if isinstance(each, ProtocolSet) else each.digest
        return self._kept / network / f"{name}.npy"


def check_embeddable(each: EvaluationSet) -> None:
    """Raise `UserError` if images cannot be decoded; looks at up to 2,000, which must be there."""
    if isinstance(each, ProtocolSet):
        each.faces.check_some()
    elif isinstance(each, VerificationPairs):
        check_some_pixels(
            len(each.images), lambda i: each.images[i], lambda i: f"{each.name}, image {i}"
        )
    else:
        check_some_pixels(len(each), each.read, lambda i: f"{each.name}, image {i}")


def kept_bytes(each: EvaluationSet, embedding: int) -> int:
    """The size of the cached features of a set with their norms; 0 if it is too large to cache."""
    images = image_count(each)
    size = 4 * images * embedding
    return 0 if size > MOST_KEPT_BYTES else size + 4 * images


class HeldFeatures:
    """`SetFeatures` of a single set, held in memory."""

    def __init__(self, held: Embedded, of: NetworkFeatures) -> None:
        self.embedder, self.preprocessing, self._held = of.embedder, of.preprocessing, held

    def features(self, each: EvaluationSet, progress: Progress | None = None) -> np.ndarray:
        return self._held.unit

    def embedded(self, each: EvaluationSet, progress: Progress | None = None) -> Embedded:
        return self._held

    def check(self, each: EvaluationSet) -> None:
        assert len(self._held.unit) == image_count(each), "they are of this set"


def _is_usable(unit: np.ndarray, each: EvaluationSet) -> bool:
    """Whether cached features are usable; those of a damaged or an older file may not be."""
    try:
        _check_usable(unit, each)
    except UnusableEmbeddingsError:
        return False
    return True


@contextmanager
def _removed_if_unusable(parts: EmbeddedParts) -> Iterator[None]:
    """Remove the parts, so that the next run computes the embeddings again."""
    try:
        yield
    except UnusableEmbeddingsError:
        parts.remove()
        raise


def _check_usable(unit: np.ndarray, each: EvaluationSet) -> None:
    advice = "check the network's preprocessing and weights"
    distinct = distinct_images(each) > 1
    check_usable(unit, each.name, "the network's embedding of image", advice, distinct)


def _pixels_of(images: ImageSet) -> Callable[[int], np.ndarray]:
    read, name = images.read, images.name
    return lambda i: decode(read(i), f"{name}, image {i}")


def _can_keep(folder: Path) -> bool:
    """Create the folder; returns whether files can be made in it.

    The workspace may be read-only or belong to another user.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        return False
    return can_make_files(folder)


def _norms_of(path: Path) -> Path:
    """The file of norms for a file of unit features; older versions did not write it."""
    return path.with_suffix(".norms")


def _write_features(path: Path, made: Embedded) -> None:
    for target, array in ((_norms_of(path), made.norms), (path, made.unit)):
        with atomic_file(target) as file:
            write_array(file, array)


def _report_done(each: EvaluationSet, progress: Progress | None) -> None:
    if progress:
        progress(distinct_images(each), distinct_images(each))


def image_count(each: EvaluationSet) -> int:
    """The number of features of a set."""
    if isinstance(each, ProtocolSet):
        return len(each.faces)
    return len(each.images) if isinstance(each, VerificationPairs) else len(each)


def distinct_images(each: EvaluationSet) -> int:
    """The number of images that a network embeds for a set; see `embed_distinct`."""
    return len(set(each.images)) if isinstance(each, VerificationPairs) else image_count(each)


def _read_features(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Read cached features; None if there are none or the file holds something else."""
    try:
        return read_array(path, np.dtype("<f4"), shape)
    except UnreadableError:
        return None
