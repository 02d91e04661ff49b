"""Records of a ``.rec`` file in order, at disk speed.

A second thread reads and hashes blocks (``curation.sources.read_ahead``). Complete records within a
block are found here; ``RecordReader`` reads those that are split, very long or damaged.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation.records.recordio import MAGIC, MAX_PART, RecordReader
from curation.sources.digests import PrefixDigest, check_unchanged
from curation.sources.quarantine import BadRecordError, OnBad, stop_at
from curation.sources.read_ahead import OVERLAP_BYTES, FileBlock, read_blocks


class Records(NamedTuple):
    """Consecutive records in one buffer: record i is ``data[begins[i] : ends[i]]``.

    The buffer is reused for the next records.
    """

    offsets: np.ndarray
    """int64 ``[n]``: the offset of each record in the file"""
    data: bytes | memoryview
    begins: np.ndarray
    """int64 ``[n]``, multiples of four"""
    ends: np.ndarray
    """int64 ``[n]``"""


class _BlockOfRecords:
    """The frame heads of a block, found in one pass.

    Data never contain the magic at multiples of four.
    """

    def __init__(self, block: FileBlock) -> None:
        self.offset, self.data = block.offset, block.data
        words = np.frombuffer(block.data, "<u4", len(block.data) // 4)
        self.heads = np.flatnonzero(words[:-1] == MAGIC)
        """The words at which frames begin"""
        self.lengths = words[self.heads + 1].astype(np.int64)
        # A length above MAX_PART belongs to a frame of a split record.
        steps = 8 + (self.lengths[:-1] + 3 & ~3)
        whole = (self.lengths[:-1] <= MAX_PART) & (4 * np.diff(self.heads) == steps)
        self._ends_of_rows = np.append(np.flatnonzero(~whole), max(len(self.heads) - 1, 0))

    def row_from(self, position: int) -> tuple[int, int]:
        """The range of consecutive complete records that starts at ``position``; may be empty."""
        word = (position - self.offset) // 4
        first = int(np.searchsorted(self.heads, word))
        if first == len(self.heads) or self.heads[first] != word:
            return 0, 0
        place = int(np.searchsorted(self._ends_of_rows, first))
        return first, int(self._ends_of_rows[place]) if place < len(self._ends_of_rows) else first


class RecordStream:
    """Iterates over all ``Records`` from the byte ``start``.

    A record counts as complete only if another record or the end of the file follows: a wrong
    length is also damage. Damage goes to ``on_bad``; if that returns, reading continues at the next
    record that can be found. ``position`` is the end of the records yielded so far; ``digest``
    covers the blocks read completely. ``earlier`` is the digest of an interrupted reading;
    ``UserError`` if that part of the file has changed.
    """

    def __init__(
        self,
        path: Path,
        start: int = 0,
        earlier: PrefixDigest | None = None,
        on_bad: OnBad = stop_at,
    ) -> None:
        self.path, self.digest = path, PrefixDigest(0, "")
        self.position, self._earlier, self._on_bad = start, earlier, on_bad

    def __iter__(self) -> Iterator[Records]:
        with RecordReader(self.path) as reader, closing(read_blocks(self.path)) as blocks:
            for block in blocks:
                check_unchanged(self.path, block.digest, self._earlier)
                end, whole = block.offset + len(block.data), _BlockOfRecords(block)
                while self.position < end:
                    yield from self._records_in(whole)
                    if end - OVERLAP_BYTES <= self.position and end < reader.size:
                        break  # the next block contains the rest
                    if self.position < end:
                        yield from self._read_slowly(self.position, reader)
                self.digest = block.digest

    def _records_in(self, block: _BlockOfRecords) -> Iterator[Records]:
        """The complete, consecutive records of the block from the position on."""
        first, last = block.row_from(self.position)
        if last > first:
            self.position = block.offset + 4 * int(block.heads[last])
            begins = 4 * block.heads[first:last] + 8
            ends = begins + block.lengths[first:last]
            yield Records(block.offset + begins - 8, block.data, begins, ends)

    def _read_slowly(self, offset: int, reader: RecordReader) -> Iterator[Records]:
        """Read at most one record, and move past it, or past damage to the next record."""
        after = reader.size
        try:
            after = reader.end_of(offset)
            if not reader.begins_record(after):
                raise BadRecordError(
                    f"{self.path}: record at byte {offset} of {reader.size}",
                    None,
                    offset,
                    f"no record follows where it ends, at byte {after}: its length is wrong, "
                    "or the next one is damaged",
                )
            record = reader.read(offset)
        except BadRecordError as bad:
            # If the length is wrong, the next record begins before the stated end.
            self.position = min(reader.find_record(offset + 4), after)
            self._on_bad(bad)
        else:
            self.position = after
            yield Records(np.array([offset]), record, np.array([0]), np.array([len(record)]))
