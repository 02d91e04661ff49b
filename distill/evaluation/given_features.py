"""Features of sets that other tools computed, read from a folder."""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np

from curation.arrays import ArrayHeader, read_floats, read_head
from curation.errors import UserError
from curation.files import UnreadableError, open_regular
from curation.pairs import VerificationPairs
from curation.progress import Progress
from distill.evaluation.features import ROWS, Embedded, check_memory, check_usable
from distill.evaluation.protocols.protocol import ProtocolSet
from distill.evaluation.set_features import EvaluationSet, distinct_images, image_count
from teachers.embedder import normalise

MOST_DIMENSIONS = 1 << 16
_ENDINGS = (".npy", ".bin")
_KINDS = ("f2", "f4", "f8")


class GivenFeatures:
    """`SetFeatures` from files: ``folder``/NAME.npy is [N, D] for the set NAME, in order.

    The numbers are float16, float32 or float64. A set of pairs has two rows per pair, in the order
    of its file or list. Protocols may have their own file formats. Vectors are normalised to unit
    length.
    """

    preprocessing = "given"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def embedder(self) -> str:
        """The digest of all embeddings in the folder; reads them completely."""
        digest = hashlib.sha256()
        files = (path for ending in _ENDINGS for path in self.folder.rglob(f"*{ending}"))
        for path in sorted(path for path in files if path.is_file()):
            with open_regular(path) as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            name = path.relative_to(self.folder).as_posix()
            digest.update(f"{name}\n{content}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def features(self, each: EvaluationSet, progress: Progress | None = None) -> np.ndarray:
        return self.embedded(each, progress).unit

    def embedded(self, each: EvaluationSet, progress: Progress | None = None) -> Embedded:
        """The features of a set; see `SetFeatures.features` for errors."""
        found = self._raw(each)
        norms = np.empty(len(found), np.float32)
        with np.errstate(invalid="ignore", over="ignore"):
            # In place and in parts, so that a million images are not in memory twice.
            for start in range(0, len(found), ROWS):
                part = slice(start, start + ROWS)
                norms[part] = np.linalg.norm(found[part], axis=1)
                found[part] = normalise(found[part])
        self._check_usable(each, Embedded(found, norms))
        return Embedded(found, norms)

    def check(self, each: EvaluationSet) -> None:
        path = self._path(each)
        if path.exists() or path.is_symlink():
            _head(path, image_count(each))
        elif not isinstance(each, ProtocolSet) or each.written(self.folder) is None:
            others = sorted(other.name for other in self.folder.glob("*.npy"))
            there = f"; the folder has {', '.join(others[:5])}" if others else ""
            raise UserError(
                f"{self.folder}: no embeddings of {each.name}; write {path.name}: "
                f"{_wanted(image_count(each))}, one row per image, in the order of the set{there}"
            )

    def _raw(self, each: EvaluationSet) -> np.ndarray:
        self.check(each)
        path = self._path(each)
        if isinstance(each, ProtocolSet) and not path.is_file():
            own = each.written(self.folder)
            assert own is not None, "it was looked for"
            return own
        found = read_floats(path, _head(path, image_count(each)))
        if isinstance(each, VerificationPairs) and each.order is not None:
            return found[each.numbers]
        return found

    def _path(self, each: EvaluationSet) -> Path:
        return self.folder / f"{each.name}.npy"

    def _check_usable(self, each: EvaluationSet, found: Embedded) -> None:
        path = self._path(each) if self._path(each).is_file() else self.folder
        has_blanks = isinstance(each, ProtocolSet) and each.has_blanks and found.norms.any()
        unit = found.unit[found.norms != 0] if has_blanks else found.unit
        distinct = distinct_images(each) > 1
        of = f"{path}, embeddings of {each.name}"
        check_usable(unit, of, "row", "write the embeddings again", distinct)


def _wanted(count: int) -> str:
    return f"float32 [{count}, D] (or float16, float64)"


def _head(path: Path, count: int) -> ArrayHeader:
    """The header of the embeddings of ``count`` images; ``UserError`` if they are unusable."""
    try:
        head = read_head(path)
    except UnreadableError as error:
        raise UserError(
            f"{error}; expected {_wanted(count)}, as written by "
            "np.save(FILE, embeddings.astype(np.float32))"
        ) from None
    if len(head.shape) != 2 or head.shape[0] != count or head.kind.str[1:] not in _KINDS:
        raise UserError(
            f"{path}: the array is {head}; expected {_wanted(count)}, one row per image, in the "
            "order of the set"
        )
    if not 1 <= head.shape[1] <= MOST_DIMENSIONS:
        raise UserError(
            f"{path}: the embeddings have {head.shape[1]:,} dimensions; allowed: 1 to "
            f"{MOST_DIMENSIONS:,}"
        )
    check_memory(path, str(head), count * head.shape[1])
    return head
