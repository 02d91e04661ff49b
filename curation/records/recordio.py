"""MXNet's RecordIO container, without MXNet.

A file is a sequence of frames. A frame is two little-endian words, the magic and
``cflag << 29 | length``, followed by the data, zero-padded to a multiple of four bytes. A record is
one frame (cflag 0). If its data contain the magic at a multiple of four, the record is split there
into several frames (1 first, 2 middle, 3 last); the magic is removed and restored on joining.
Source: dmlc-core ``src/recordio.cc``.

An image record begins with ``IRHeader``, the struct ``IfQQ`` (flag, label, id, id2). If the flag is
not 0, that many float32 labels follow, and the header's own label is meaningless.
Source: MXNet ``python/mxnet/recordio.py``.
"""

import io
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from curation.files import UnreadableError, open_regular
from curation.sources.quarantine import BadRecordError

MAGIC = 0xCED7230A
MAGIC_BYTES = struct.pack("<I", MAGIC)
MAX_PART = (1 << 29) - 1
"""A length has 29 bits."""
MAX_RECORD = 64 << 20
"""Bytes; an image has at most 32 MiB"""

_FRAME = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_NOWHERE = np.empty(0, np.int64)
_STRETCH = 1 << 20
"""Bytes that are searched for frame heads at a time; a multiple of four"""


class ImageRecord(NamedTuple):
    """An image with its labels, as in MXNet's ``pack`` and ``unpack``.

    ``labels`` is None for a scalar label (flag 0).
    """

    label: float
    payload: bytes
    id: int = 0
    id2: int = 0
    labels: tuple[float, ...] | None = None

    @property
    def flag(self) -> int:
        """The number of labels before the payload; 0 for a scalar label."""
        return 0 if self.labels is None else len(self.labels)

    def pack(self) -> bytes:
        """The record's bytes, identical to MXNet's."""
        if self.labels is None:
            return _HEADER.pack(0, self.label, self.id, self.id2) + self.payload
        labels = struct.pack(f"<{len(self.labels)}f", *self.labels)
        return _HEADER.pack(len(self.labels), 0.0, self.id, self.id2) + labels + self.payload

    @classmethod
    def unpack(cls, record: bytes) -> Self:
        """Parse a record; ``ValueError`` if it is shorter than its header states."""
        if len(record) < _HEADER.size:
            raise ValueError(f"{len(record)} bytes are too few for an image header of 24")
        flag, label, id, id2 = _HEADER.unpack_from(record)
        if flag == 0:
            return cls(label, record[_HEADER.size :], id, id2)
        end = _HEADER.size + 4 * flag
        if end > len(record):
            raise ValueError(f"its header announces {flag} labels, but it has {len(record)} bytes")
        labels = struct.unpack_from(f"<{flag}f", record, _HEADER.size)
        return cls(labels[0], record[end:], id, id2, labels)


class _Heads(NamedTuple):
    """The frames that begin in a stretch of the file: data never contain the magic at multiples of
    4.
    """

    begin: int
    end: int
    frames: np.ndarray
    """int64 ``[n]``, ascending"""
    records: np.ndarray
    """int64 ``[n]``: the frames that begin a record"""


class RecordReader:
    """Reads records of a ``.rec`` file in order or by byte offset.

    A context manager; iterating yields ``(offset, record)`` from the start, with one record in
    memory. Damage raises ``BadRecordError`` (a ``UserError``) with the byte offset. Even with wrong
    lengths, each byte is read only a few times: data are read only if the frame heads around them
    are consistent.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._file = open_regular(self.path)
        self.size = os.fstat(self._file.fileno()).st_size
        self._known = _Heads(0, 0, _NOWHERE, _NOWHERE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        offset = 0
        while offset < self.size:
            record, after = self.read_at(offset)
            yield offset, record
            offset = after

    def read(self, offset: int) -> bytes:
        """The record that begins at the byte ``offset``."""
        return self.read_at(offset)[0]

    def read_at(self, offset: int) -> tuple[bytes, int]:
        """The record that begins at the byte ``offset``, and where it ends."""
        parts, after = self._parts(offset)
        return MAGIC_BYTES.join(self._read(*part) for part in parts), after

    def end_of(self, offset: int) -> int:
        """Where the record that begins at the byte ``offset`` ends, without reading its data."""
        return self._parts(offset)[1]

    def begins_record(self, offset: int) -> bool:
        """Whether a record begins at ``offset``, or the file ends there, possibly truncated."""
        return MAGIC_BYTES.startswith(self._read(offset, min(4, self.size - offset)))

    def find_record(self, offset: int) -> int:
        """The offset of the first record at or after ``offset``, or the file's size."""
        return self._find(offset, lambda heads: heads.records)

    def _find(self, offset: int, kind: Callable[[_Heads], np.ndarray]) -> int:
        while offset < self.size:
            heads = self._heads(offset)
            found = kind(heads)
            place = int(np.searchsorted(found, offset))
            if place < len(found):
                return int(found[place])
            offset = heads.end
        return self.size

    def _heads(self, offset: int) -> _Heads:
        """The frame heads in the stretch that contains ``offset``."""
        if not self._known.begin <= offset < self._known.end:
            begin = offset - offset % _STRETCH
            end = min(begin + _STRETCH, self.size)
            data = self._read(begin, min(end + 4, self.size) - begin)
            words = np.frombuffer(data, "<u4", len(data) // 4)
            places = np.flatnonzero(words[:-1] == MAGIC)
            are_records = np.isin(words[places + 1] >> 29, (_WHOLE, _FIRST))
            frames = begin + 4 * places
            self._known = _Heads(begin, end, frames, frames[are_records])
        return self._known

    def _parts(self, offset: int) -> tuple[list[tuple[int, int]], int]:
        """The (offset, length) of each part of the record at ``offset``, and the record's end."""
        cflag, length, after = self._read_head(offset)
        parts = [(offset + 8, length)]
        if cflag not in (_WHOLE, _FIRST):
            raise self._error(offset, f"it is a continuation (cflag {cflag}) without a first part")
        size = length
        while cflag not in (_WHOLE, _LAST):
            beginning = after
            if self._find(parts[-1][0], lambda heads: heads.frames) < beginning:
                raise self._error(offset, f"a frame begins within its part before byte {beginning}")
            cflag, length, after = self._read_head(beginning)
            if cflag not in (_MIDDLE, _LAST):
                raise self._error(
                    beginning, f"a part of the record at {offset} is missing before it"
                )
            parts.append((beginning + 8, length))
            size += 4 + length
        if size > MAX_RECORD:
            raise self._error(offset, f"it has {size:,} bytes; at most {MAX_RECORD:,} are read")
        return parts, after

    def _read_head(self, offset: int) -> tuple[int, int, int]:
        """The cflag and length of the frame at ``offset``, and where the frame ends."""
        head = self._read(offset, max(min(8, self.size - offset), 0))
        if len(head) < 8:
            raise self._error(offset, f"the file is truncated: it ends {len(head)} bytes later")
        magic, word = _FRAME.unpack(head)
        if magic != MAGIC:
            raise self._error(offset, f"wrong magic 0x{magic:08x}, RecordIO has 0x{MAGIC:08x}")
        length = word & MAX_PART
        after = offset + 8 + (length + 3 & ~3)
        if after > self.size:
            raise self._error(offset, f"the file is truncated: the frame ends at byte {after}")
        return word >> 29, length, after

    def _read(self, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._file.fileno(), size, offset)
        except OSError as error:
            raise UnreadableError(self.path, f"cannot read it: {error.strerror}") from None
        if len(data) < size:
            raise self._error(offset, "the file was truncated while it was read")
        return data

    def _error(self, offset: int, reason: str) -> BadRecordError:
        return BadRecordError(
            f"{self.path}: record at byte {offset} of {self.size}", None, offset, reason
        )


class RecordWriter:
    """Writes records, byte for byte like MXNet. A context manager."""

    def __init__(self, path: Path) -> None:
        self._file = Path(path).open("wb")  # noqa: SIM115 - closed by __exit__
        self._offset = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        if kind is None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()

    def write(self, record: bytes) -> int:
        """Append a record and return its byte offset for the index."""
        offset = self._offset
        for frame in _frames(record):
            self._offset += self._file.write(frame)
        return offset

    def overwrite_first(self, record: bytes) -> None:
        """Overwrite the first record with one of the same length, and return to the end."""
        self._file.seek(0)
        for frame in _frames(record):
            self._file.write(frame)
        self._file.seek(0, io.SEEK_END)


def _frames(record: bytes) -> Iterator[bytes]:
    parts = _split_at_magic(record)
    for number, part in enumerate(parts):
        if len(part) > MAX_PART:
            raise ValueError(f"a record of {len(record)} bytes is too long for RecordIO")
        last = number == len(parts) - 1
        cflag = (_WHOLE if last else _FIRST) if number == 0 else (_LAST if last else _MIDDLE)
        yield _FRAME.pack(MAGIC, cflag << 29 | len(part)) + part + bytes(-len(part) % 4)


def _split_at_magic(record: bytes) -> list[bytes]:
    """Split the record at every magic at a multiple of four, and drop the magic."""
    parts = []
    beginning = 0
    found = record.find(MAGIC_BYTES)
    while found >= 0:
        if found % 4 == 0:
            parts.append(record[beginning:found])
            beginning = found + 4
        found = record.find(MAGIC_BYTES, found + 1 if found % 4 else found + 4)
    return [*parts, record[beginning:]]
