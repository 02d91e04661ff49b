"""Reading untrusted archives of NumPy arrays, ``.npz``, with checks before decompression."""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from curation.arrays import ArrayHeader, exactly, parse_head
from curation.files import UnreadableError, open_regular

MOST_MEMBERS = 32
"""Maximum number of arrays in an ``.npz``"""
_SMALL = 4096
"""Bytes that an array of an ``.npz`` may always have"""
_MEMBER_BYTES = 1024
"""Maximum bytes of a member's entry in the central directory, including its name"""
_END = struct.Struct("<4s4H2LH")
_END_MARK, _END_OF_LARGE = b"PK\5\6", b"PK\6\7"
_LARGE_END = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_BYTES = 20
_TOGETHER = 1 << 20
_FAULTS = (BadZipFile, ValueError, OSError, EOFError, OverflowError, NotImplementedError,
           RuntimeError, struct.error, zlib.error)  # fmt: skip
"""Exceptions of ``zipfile`` for a damaged archive"""


def read_arrays(path: Path, largest: int) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz`` file, at most ``MOST_MEMBERS`` of at most ``largest`` bytes each.

    Every header is checked before any array is decompressed, because a few bytes can expand to
    gigabytes. Raises ``UnreadableError`` if the file is incomplete or exceeds the limits.
    """
    with open_regular(path) as file:
        try:
            _check_list(file)
            with ZipFile(file) as archive:
                members = list(_members(archive, largest))
                return {name: _unpack(archive, member, head) for name, member, head in members}
        except _FAULTS as error:
            reason = " ".join(str(error).split()) or "it ends early"
            raise UnreadableError(path, reason[:200]) from None


def _check_list(file: BinaryIO) -> None:
    """Raise ``ValueError`` if the central directory is larger than that of a few arrays.

    ``zipfile`` would hold all of it in memory, many times as large.
    """
    size = os.fstat(file.fileno()).st_size
    ends = _END.size + _LOCATOR_BYTES + _LARGE_END.size
    file.seek(max(0, size - ends))
    last = file.read()
    if len(last) < _END.size or last[-_END.size :][:4] != _END_MARK:
        raise ValueError("it is not an archive of NumPy arrays (.npz), or is truncated")
    length = _END.unpack(last[-_END.size :])[5]
    if last[: -_END.size][-_LOCATOR_BYTES:][:4] == _END_OF_LARGE and len(last) == ends:
        length = max(length, _LARGE_END.unpack(last[: _LARGE_END.size])[8])
    if length > MOST_MEMBERS * _MEMBER_BYTES:
        raise ValueError(f"its list of arrays has {length:,} bytes")


def _members(archive: ZipFile, largest: int) -> Iterator[tuple[str, ZipInfo, ArrayHeader]]:
    """Name, location and header of each array."""
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise ValueError(f"it holds {len(members)} arrays, more than {MOST_MEMBERS}")
    if len({member.filename for member in members}) < len(members):
        raise ValueError("two of its arrays have the same name")
    for member in members:
        try:
            head = _member_head(archive, member, largest)
        except ValueError as error:
            raise ValueError(f"{member.filename[:40]} {error}") from None
        yield member.filename.removesuffix(".npy"), member, head


def _member_head(archive: ZipFile, member: ZipInfo, largest: int) -> ArrayHeader:
    """The header; ``ValueError`` with a message that continues after the member's name."""
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or member.flag_bits & 1:
        raise ValueError("is compressed in a way that NumPy does not use")
    with archive.open(member) as stream:
        try:
            head = parse_head(stream)
        except ValueError as error:
            raise ValueError(f"cannot be read: {error}") from None
    if head.size > max(largest, _SMALL):
        raise ValueError(f"would take {head.size} bytes, at most {largest} are allowed")
    if head.begin + head.size != member.file_size:
        raise ValueError(f"is {head} in {member.file_size} bytes")
    return head


def _unpack(archive: ZipFile, member: ZipInfo, head: ArrayHeader) -> np.ndarray:
    content, filled = np.empty(head.size, np.uint8), 0
    with archive.open(member) as stream:
        exactly(stream, head.begin)
        while filled < head.size:
            part = stream.read(_TOGETHER)
            if not part:
                raise EOFError
            content[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
            filled += len(part)
    if head.kind.kind == "b" and content.max(initial=0) > 1:
        raise ValueError(f"{member.filename[:40]} holds booleans that are neither 0 nor 1")
    return head.arranged(content.view(head.kind))
