"""NumPy arrays that somebody else wrote, ``.npy`` and ``.npz``: looked at before they are read.

NumPy evaluates an array's head and allots what it asks for. Here the head is only matched, and the
bytes that are there must be as many as its type and shape take, so nothing larger than the file is
ever allotted; where the caller names type or shape, nothing else is read.
"""

import math
import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from curation.files import UnreadableError, open_regular

_MAGIC = b"\x93NUMPY"
_LENGTHS = {b"\1\0": struct.Struct("<H"), b"\2\0": struct.Struct("<I")}
"""How the length of the text is written, by version of the format"""
_LONGEST_TEXT = 4096
_ITEM = rb"\s*'(descr|fortran_order|shape)'\s*:\s*('[^']*'|True|False|\([^()]*\))\s*"
_TEXT = re.compile(rb"\{" + rb",".join([_ITEM] * 3) + rb",?\s*\}\s*")
_KIND = re.compile(rb"'([<>|=](?:[biuf][1248]|U[1-9][0-9]{0,3}))'")
_SHAPE = re.compile(rb"\((?:\s*[0-9]{1,18}\s*,)*(?:\s*[0-9]{1,18}\s*)?\)")
_MOST_AXES = 8

MOST_MEMBERS = 32
"""Arrays in an ``.npz``"""
_SMALL = 4096
"""Bytes that an array of an ``.npz`` may take in any case"""
_MEMBER_BYTES = 1024
"""Of a member's entry in an archive's list, name included"""
_END = struct.Struct("<4s4H2LH")
_END_MARK, _END_OF_LARGE = b"PK\5\6", b"PK\6\7"
_LARGE_END = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_BYTES = 20
_TOGETHER = 1 << 20
_FAULTS = (BadZipFile, ValueError, OSError, EOFError, OverflowError, NotImplementedError,
           RuntimeError, struct.error, zlib.error)  # fmt: skip
"""What ``zipfile`` raises where an archive is damaged"""


class Head(NamedTuple):
    """What an array's file says before its numbers."""

    kind: np.dtype
    shape: tuple[int, ...]
    is_transposed: bool
    """Its numbers stand in Fortran's order"""
    begin: int
    """Bytes before them"""

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.kind.itemsize

    def arranged(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers, in a row as they stand in the file, as the array."""
        if self.is_transposed:
            return numbers.reshape(self.shape[::-1]).T
        return numbers.reshape(self.shape)

    def __str__(self) -> str:
        return f"{self.kind} {list(self.shape)}"


def read_head(path: Path) -> Head:
    """The head of a ``.npy`` file, whose numbers are all there.

    ``UnreadableError`` where it is no regular file, not one of numbers (or short texts) in NumPy's
    format, or longer or shorter than its head says.
    """
    with open_regular(path) as file:
        return _checked_head(path, file)


def read_array(path: Path, kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The array in a ``.npy`` file; ``UnreadableError`` as of ``read_head``, or if another one."""
    with open_regular(path) as file:
        head = _checked_head(path, file)
        _refuse_other(path, head, kind, shape)
        file.seek(head.begin)
        numbers = np.fromfile(file, kind, math.prod(shape))
    if numbers.size != math.prod(shape):
        raise UnreadableError(path, "it became shorter while it was read")
    return head.arranged(numbers)


def map_array(path: Path, kind: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """``read_array`` of one that is too large for memory: mapped, read-only, in C's order."""
    with open_regular(path) as file:
        head = _checked_head(path, file)
        _refuse_other(path, head, kind, shape)
        if head.is_transposed and len(shape) > 1:
            raise UnreadableError(path, "its numbers are in Fortran's order")
        return np.memmap(file, kind, "r", head.begin, shape)


def _checked_head(path: Path, file: BinaryIO) -> Head:
    try:
        head = _parse_head(file)
    except ValueError as error:
        raise UnreadableError(path, str(error)) from None
    size = os.fstat(file.fileno()).st_size - head.begin
    if size != head.size:
        raise UnreadableError(path, f"it holds {size:,} bytes of {head}, which has {head.size:,}")
    return head


def _refuse_other(path: Path, head: Head, kind: np.dtype, shape: tuple[int, ...]) -> None:
    if (head.kind, head.shape) != (kind, shape):
        wanted = Head(kind, shape, False, 0)
        raise UnreadableError(path, f"it is {head}, not {wanted}")


def _parse_head(file: IO[bytes]) -> Head:
    """The head at the beginning of ``file``; ``ValueError`` that says what it is instead."""
    magic = file.read(len(_MAGIC))
    if magic != _MAGIC:
        raise ValueError("it is no NumPy array (.npy)")
    version = file.read(2)
    if version not in _LENGTHS:
        raise ValueError(f"it is of NumPy's format {'.'.join(map(str, version))}, not 1.0 or 2.0")
    length = _LENGTHS[version]
    (size,) = length.unpack(_exactly(file, length.size))
    if size > _LONGEST_TEXT:
        raise ValueError(f"its head has {size:,} bytes, more than {_LONGEST_TEXT:,}")
    found = _TEXT.fullmatch(_exactly(file, size))
    items = (
        {} if found is None else dict(zip(found.groups()[::2], found.groups()[1::2], strict=True))
    )
    if len(items) < 3:
        raise ValueError("its head is not one that NumPy writes")
    begin = len(_MAGIC) + 2 + length.size + size
    order = items[b"fortran_order"]
    if order not in (b"True", b"False"):
        raise ValueError("its head is not one that NumPy writes")
    return Head(_kind(items[b"descr"]), _shape(items[b"shape"]), order == b"True", begin)


def _exactly(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise ValueError("its head is cut off")
    return content


def _kind(text: bytes) -> np.dtype:
    found = _KIND.fullmatch(text)
    try:
        if found is not None:
            return np.dtype(found[1].decode())
    except TypeError:
        pass
    raise ValueError(f"it holds {text[:40].decode('latin-1')}; numbers are wanted")


def _shape(text: bytes) -> tuple[int, ...]:
    lengths = [part for part in text.strip(b"()").split(b",") if part.strip()]
    if _SHAPE.fullmatch(text) is None or len(lengths) > _MOST_AXES:
        raise ValueError(f"its shape is {text[:40].decode('latin-1')}")
    return tuple(map(int, lengths))


def read_arrays(path: Path, largest: int) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz`` file, at most ``MOST_MEMBERS`` of at most ``largest`` bytes each.

    Every head is looked at before any array is unpacked: a few bytes can stand for gigabytes.
    Raises ``UnreadableError`` where the file is not whole or asks for more.
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
    """``ValueError`` where an archive's list of members is longer than that of a few arrays.

    All of it would be held in memory, many times as large.
    """
    size = os.fstat(file.fileno()).st_size
    ends = _END.size + _LOCATOR_BYTES + _LARGE_END.size
    file.seek(max(0, size - ends))
    last = file.read()
    if len(last) < _END.size or last[-_END.size :][:4] != _END_MARK:
        raise ValueError("it is no archive of NumPy arrays (.npz), or is cut off")
    length = _END.unpack(last[-_END.size :])[5]
    if last[: -_END.size][-_LOCATOR_BYTES:][:4] == _END_OF_LARGE and len(last) == ends:
        length = max(length, _LARGE_END.unpack(last[: _LARGE_END.size])[8])
    if length > MOST_MEMBERS * _MEMBER_BYTES:
        raise ValueError(f"its list of arrays has {length:,} bytes")


def _members(archive: ZipFile, largest: int) -> Iterator[tuple[str, ZipInfo, Head]]:
    """Name, place and head of each array."""
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise ValueError(f"it holds {len(members)} arrays, more than {MOST_MEMBERS}")
    if len({member.filename for member in members}) < len(members):
        raise ValueError("it holds two arrays of one name")
    for member in members:
        try:
            head = _member_head(archive, member, largest)
        except ValueError as error:
            raise ValueError(f"{member.filename[:40]} {error}") from None
        yield member.filename.removesuffix(".npy"), member, head


def _member_head(archive: ZipFile, member: ZipInfo, largest: int) -> Head:
    """``ValueError`` that goes on after the member's name."""
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or member.flag_bits & 1:
        raise ValueError("is packed in a way that NumPy does not use")
    with archive.open(member) as stream:
        try:
            head = _parse_head(stream)
        except ValueError as error:
            raise ValueError(f"cannot be read: {error}") from None
    if head.size > max(largest, _SMALL):
        raise ValueError(f"would take {head.size} bytes, at most {largest} are wanted")
    if head.begin + head.size != member.file_size:
        raise ValueError(f"is {head} in {member.file_size} bytes")
    return head


def _unpack(archive: ZipFile, member: ZipInfo, head: Head) -> np.ndarray:
    content, filled = np.empty(head.size, np.uint8), 0
    with archive.open(member) as stream:
        _exactly(stream, head.begin)
        while filled < head.size:
            part = stream.read(_TOGETHER)
            if not part:
                raise EOFError
            content[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
            filled += len(part)
    return head.arranged(content.view(head.kind))
