"""Unit features of evaluation sets: by a network, kept so that nothing is asked twice, or given."""

import hashlib
from pathlib import Path
from typing import Protocol

import numpy as np

from curation.arrays import read_array, read_head
from curation.errors import UserError
from curation.files import UnreadableError, atomic_file, open_regular
from curation.pairs import VerificationPairs
from curation.progress import Progress
from curation.store import ImageSet
from distill.evaluation.features import embed_distinct, embed_encoded
from teachers.embedder import Embedder, normalise

EvaluationSet = VerificationPairs | ImageSet
FEATURES = "features"
"""The folder of a workspace's cache that keeps them"""
MOST_KEPT_BYTES = 1 << 30
"""Of one set; more is computed again. A million images with 256 dimensions are as much."""


class SetFeatures(Protocol):
    """What a network, of the digests ``embedder`` and ``preprocessing``, says of sets."""

    embedder: str
    preprocessing: str

    def features(self, each: EvaluationSet, progress: Progress | None = None) -> np.ndarray:
        """Unit features, float32 [N, D], of a set's images in order; two a pair of a set of pairs.

        Those that are no unit vectors are the caller's to find: see `features.why_broken`.
        """
        ...


class NetworkFeatures:
    """Of an embedder under the mirror rule; kept in the folder ``kept`` where that is given."""

    def __init__(self, network: Embedder, kept: Path | None = None) -> None:
        self.embedder, self.preprocessing = network.digest, network.preprocessing.digest
        self._network, self._kept = network, kept

    def features(self, each: EvaluationSet, progress: Progress | None = None) -> np.ndarray:
        shape = (image_count(each), self._network.embedding)
        path = self._path(each, shape)
        known = None if path is None else _read_features(path, shape)
        if known is not None:
            if progress:
                progress(distinct_images(each), distinct_images(each))
            return known
        features = self._embed(each, progress)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as file:
                np.save(file, features)
        return features

    def knows(self, each: EvaluationSet) -> bool:
        """Whether the network need not be asked."""
        path = self._path(each, (image_count(each), self._network.embedding))
        return path is not None and path.is_file()

    def _embed(self, each: EvaluationSet, progress: Progress | None) -> np.ndarray:
        if isinstance(each, VerificationPairs):
            return embed_distinct(self._network, each.images, each.name, progress)
        return embed_encoded(self._network, each.read, range(len(each)), each.name, progress)

    def _path(self, each: EvaluationSet, shape: tuple[int, int]) -> Path | None:
        if self._kept is None or 4 * shape[0] * shape[1] > MOST_KEPT_BYTES:
            return None
        network = f"{self.embedder[:16]}-{self.preprocessing[:16]}"
        return self._kept / network / f"{each.digest}.npy"


class GivenFeatures:
    """`SetFeatures` from files: ``folder``/NAME.npy has a float32 [N, D] of the set NAME, in order.

    Of a set of pairs, N is two a pair. Vectors are brought to unit length.
    """

    preprocessing = "given"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        digest = hashlib.sha256()
        for path in sorted(folder.glob("*.npy")):
            with open_regular(path) as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.name}\n{content}\n".encode())
        self.embedder = digest.hexdigest()

    def features(self, each: EvaluationSet, progress: Progress | None = None) -> np.ndarray:
        path, count = self.folder / f"{each.name}.npy", image_count(each)
        if not path.is_file():
            raise UserError(
                f"{self.folder}: no embeddings of {each.name}; write {path.name}, float32 "
                f"[{count}, D], a row an image in the order of the set"
            )
        return normalise(_given(path, count))


def image_count(each: EvaluationSet) -> int:
    """How many features a set has."""
    return len(each.images) if isinstance(each, VerificationPairs) else len(each)


def distinct_images(each: EvaluationSet) -> int:
    """How many images of it are embedded; see `embed_distinct`."""
    return len(set(each.images)) if isinstance(each, VerificationPairs) else len(each)


def _read_features(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """None where there are none yet, or the file holds something else."""
    try:
        return read_array(path, np.dtype("<f4"), shape)
    except UnreadableError:
        return None


def _given(path: Path, count: int) -> np.ndarray:
    head = read_head(path)
    if len(head.shape) != 2 or head.shape[0] != count or head.kind != np.dtype("<f4"):
        raise UserError(f"{path}: it is {head}; wanted is float32 [{count}, D]")
    return read_array(path, head.kind, head.shape)
