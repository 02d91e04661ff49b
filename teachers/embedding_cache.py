"""An open cache of a teacher's embeddings; ``teachers.embeddings`` creates it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from teachers.cache_files import NORM, UNIT, damaged, map_cached, read_about
from teachers.precision import LARGEST, from_int8
from teachers.row_table import RowTable, checksums

_TOGETHER = 1024
_MAGNITUDE, _ONE = np.uint16(0x7FFF), np.float16(1).view(np.uint16)
"""Bit mask of a float16 without its sign; non-finite values exceed the bits of 1."""


class Embeddings(Protocol):
    """Cached embeddings of a teacher, for one store or several combined."""

    @property
    def embedding(self) -> int:
        """D, the width of the embeddings."""
        ...

    @property
    def digest(self) -> str:
        """Identifies the entire content."""
        ...

    def vectors(self, rows: np.ndarray, answers: np.ndarray | slice | int) -> np.ndarray:
        """Unit vectors float16 [..., D] of rows of the store, in memory."""
        ...


class EmbeddingCache:
    """Unit vectors ``unit`` float16 [N, A, D] and norms ``norm`` float32 [N, A], memory-mapped.

    N is the number of rows of the store; axis 1 is upright and mirrored, or one augmented view.
    Rows that no data set has needed yet are zero; ``teachers.embeddings`` computes what a data set
    needs. With ``about.precision`` int8, ``unit`` has the format of ``teachers.precision``, and
    ``vectors`` returns the same as for float16. Raises ``UserError`` if the files are not a cache.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.folders = folder, (folder,)
        self.about = about = read_about(folder)
        self.unit = map_cached(folder, UNIT, about)
        self.norm = map_cached(folder, NORM, about)
        self.table = RowTable(folder, about)

    @property
    def embedding(self) -> int:
        """D, the width of the embeddings."""
        return self.unit.shape[2]

    @property
    def digest(self) -> str:
        return self.folder.name

    def vectors(self, rows: np.ndarray, answers: np.ndarray | slice | int) -> np.ndarray:
        """``unit[rows, answers]`` as float16: unit vectors [..., D], in memory."""
        taken: np.ndarray = self.unit[rows, answers]
        return from_int8(taken) if self.about.precision == "int8" else taken

    def verify(self, wanted: np.ndarray) -> None:
        """``verify_rows`` for the rows where ``wanted`` (bool [N]) is true."""
        for first in range(0, len(wanted), _TOGETHER):
            rows = first + np.flatnonzero(wanted[first : first + _TOGETHER])
            if len(rows):
                self.verify_rows(rows)

    def verify_rows(self, rows: np.ndarray) -> None:
        """Compare a few rows with their checksums; ``UserError`` if one differs.

        Also checks that they can be unit vectors, since whoever made the cache wrote the checksums.
        """
        unit, norm = self.unit[rows], self.norm[rows]
        off = self.table.entries[rows] != checksums(unit, norm)
        if off.any():
            raise damaged(self.folder, f"row {rows[np.argmax(off)]} has changed")
        if not _are_unit_vectors(unit) or not (np.isfinite(norm) & (norm > 0)).all():
            raise damaged(self.folder, "it has rows that are not unit vectors")


class JoinedRows:
    """Arrays of several stores as one, indexed by rows and optional further indices.

    Store k has the rows ``begins[k]`` ... ``begins[k+1]`` - 1.
    """

    def __init__(self, arrays: Sequence[np.ndarray], begins: np.ndarray) -> None:
        self._arrays, self._begins = arrays, begins
        self.shape = (int(begins[-1]), *arrays[0].shape[1:])
        self.dtype = arrays[0].dtype

    def __getitem__(self, key: Any) -> np.ndarray:
        """Index the concatenated arrays; ``key`` is int64 ``[n]``, or that and one more index."""
        rows, *more = key if isinstance(key, tuple) else (key,)
        which = np.searchsorted(self._begins, rows, side="right") - 1
        taken = self._arrays[0][(rows[:0], *(_part(each, slice(0)) for each in more))]
        gathered = np.empty((len(rows), *taken.shape[1:]), self.dtype)
        for number in np.unique(which).tolist():
            here = np.flatnonzero(which == number)
            own = rows[here] - self._begins[number]
            gathered[here] = self._arrays[number][(own, *(_part(each, here) for each in more))]
        return gathered


def _part(index: Any, here: np.ndarray | slice) -> Any:
    """The part of an index that belongs to some of the rows; slices and numbers apply to all."""
    return index[here] if isinstance(index, np.ndarray) else index


class JoinedCaches:
    """The caches of several stores as one, with concatenated rows."""

    def __init__(self, caches: Sequence[EmbeddingCache], begins: np.ndarray, digest: str) -> None:
        self.digest, self.precision = digest, caches[0].about.precision
        self.folders = tuple(cache.folder for cache in caches)
        self.unit = JoinedRows([cache.unit for cache in caches], begins)
        self.norm = JoinedRows([cache.norm for cache in caches], begins)

    @property
    def embedding(self) -> int:
        """D, the width of the embeddings."""
        return self.unit.shape[2]

    def vectors(self, rows: np.ndarray, answers: np.ndarray | slice | int) -> np.ndarray:
        """See ``EmbeddingCache.vectors``."""
        taken = self.unit[rows, answers]
        return from_int8(taken) if self.precision == "int8" else taken


def _are_unit_vectors(unit: np.ndarray) -> bool:
    """Whether these cached values can be unit vectors."""
    if unit.dtype == np.int8:
        return bool((np.abs(unit.astype(np.int16)).max(axis=-1) == LARGEST).all())
    return bool((unit.view(np.uint16) & _MAGNITUDE).max() <= _ONE)
