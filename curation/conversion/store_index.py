"""The arrays of a store beside its images, made block by block from what was read."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from curation.conversion.journal import CHECKSUM, KEY, LABEL, OFFSET
from curation.store import (
    CHECKSUMS_KEY,
    CHECKSUMS_TYPE,
    LABELS_KEY,
    LABELS_TYPE,
    OFFSETS_KEY,
    OFFSETS_TYPE,
    SOURCE_KEYS_KEY,
    SOURCE_KEYS_TYPE,
    SOURCE_LABELS_KEY,
    SOURCE_LABELS_TYPE,
    content_digest,
)

INDEX_KEYS = (CHECKSUMS_KEY, LABELS_KEY, OFFSETS_KEY, SOURCE_KEYS_KEY, SOURCE_LABELS_KEY)
"""All arrays, in the order of their keys"""
_BLOCK = 1 << 17


class Value(NamedTuple):
    """An entry of the index: its key, its size in bytes, and a function that gives its blocks."""

    key: bytes
    size: int
    blocks: Callable[[], Iterator[bytes]]


class StoreIndex:
    """The index of the images ``rows[order]``, int64 ``[N, 5]``; ``order`` None: as they are."""

    def __init__(self, rows: np.ndarray, order: np.ndarray | None) -> None:
        self._rows, self._order = rows, order
        self.images = len(rows)
        self.identities = sum(int(first.sum()) for _, _, first in self._blocks())

    def values(self) -> list[Value]:
        """All arrays, in the order of their keys."""
        return [
            Value(CHECKSUMS_KEY, self.images * CHECKSUMS_TYPE.itemsize, self._checksums),
            Value(LABELS_KEY, self.images * LABELS_TYPE.itemsize, self._labels),
            Value(OFFSETS_KEY, (self.identities + 1) * OFFSETS_TYPE.itemsize, self._offsets),
            Value(SOURCE_KEYS_KEY, self.images * SOURCE_KEYS_TYPE.itemsize, self._source_keys),
            Value(
                SOURCE_LABELS_KEY,
                self.identities * SOURCE_LABELS_TYPE.itemsize,
                self._source_labels,
            ),
        ]

    def digest(self, source_digest: str) -> str:
        """Hex SHA-256 of the source's digest and all arrays."""
        blocks = (block for value in self.values() for block in value.blocks())
        return content_digest(source_digest, blocks)

    def places(self) -> Iterator[int]:
        """Each image's place in the source."""
        for _, rows, _ in self._blocks():
            yield from rows[:, OFFSET].tolist()

    def _blocks(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """The first image's number, the rows, and whether each begins an identity."""
        last = np.array([-1])
        for first in range(0, self.images, _BLOCK):
            part = slice(first, first + _BLOCK)
            rows = np.asarray(self._rows[part if self._order is None else self._order[part]])
            yield first, rows, np.diff(rows[:, LABEL], prepend=last) != 0
            last = rows[-1:, LABEL]

    def _checksums(self) -> Iterator[bytes]:
        for _, rows, _ in self._blocks():
            yield rows[:, CHECKSUM].astype(CHECKSUMS_TYPE).tobytes()

    def _labels(self) -> Iterator[bytes]:
        identities = 0
        for _, _, begins in self._blocks():
            yield (identities - 1 + np.cumsum(begins)).astype(LABELS_TYPE).tobytes()
            identities += int(begins.sum())

    def _offsets(self) -> Iterator[bytes]:
        for first, _, begins in self._blocks():
            yield (first + np.flatnonzero(begins)).astype(OFFSETS_TYPE).tobytes()
        yield np.array([self.images], OFFSETS_TYPE).tobytes()

    def _source_keys(self) -> Iterator[bytes]:
        for _, rows, _ in self._blocks():
            yield rows[:, KEY].astype(SOURCE_KEYS_TYPE).tobytes()

    def _source_labels(self) -> Iterator[bytes]:
        for _, rows, begins in self._blocks():
            yield rows[begins, LABEL].astype(SOURCE_LABELS_TYPE).tobytes()
