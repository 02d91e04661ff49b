"""Reading untrusted NumPy arrays, ``.npy``, with checks before allocation.

NumPy evaluates a header and allocates what it asks for. Here the header is only matched, and the
file size must equal what type and shape require, so no allocation exceeds the file. If the caller
specifies a type or shape, nothing else is read.
"""

import math
import os
import re
import struct
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import numpy as np

from curation.files import UnreadableError, open_regular

_MAGIC = b"\x93NUMPY"
_LENGTHS = {b"\1\0": struct.Struct("<H"), b"\2\0": struct.Struct("<I")}
"""Format of the header's length, by version of the file format"""
_LONGEST_TEXT = 4096
_ITEM = rb"\s*'(descr|fortran_order|shape)'\s*:\s*('[^']*'|True|False|\([^()]*\))\s*"
_TEXT = re.compile(rb"\{" + rb",".join([_ITEM] * 3) + rb",?\s*\}\s*")
_KIND = re.compile(rb"'([<>|=](?:[biuf][1248]|U[1-9][0-9]{0,3}))'")
_SHAPE = re.compile(rb"\((?:\s*[0-9]{1,18}\s*,)*(?:\s*[0-9]{1,18}\s*)?\)")
_MOST_AXES = 8
_BLOCK = 1 << 22
"""Numbers that are converted at a time"""


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write ``.npy``, the bytes of ``np.save``.

    NumPy writes to a file by itself, and on a full disk raises an error without its number.
    """
    whole = np.ascontiguousarray(array)
    format_ = np.lib.format
    format_.write_array_header_1_0(file, format_.header_data_from_array_1_0(whole))
    file.write(whole.data)


class ArrayHeader(NamedTuple):
    """The header of an array file."""

    kind: np.dtype
    shape: tuple[int, ...]
    is_transposed: bool
    """Fortran order"""
    begin: int
    """Offset of the data in bytes"""

    @property
    def size(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * self.kind.itemsize

    def arranged(self, numbers: np.ndarray) -> np.ndarray:
        """The data in file order as an array of the right shape."""
        if self.is_transposed:
            return numbers.reshape(self.shape[::-1]).T
        return numbers.reshape(self.shape)

    def __str__(self) -> str:
        return f"{self.kind} {list(self.shape)}"


def read_head(path: Path) -> ArrayHeader:
    """The header of a ``.npy`` file that has all its data.

    Raises ``UnreadableError`` if it is not a regular file, not an array of numbers or short strings
    in NumPy's format, or longer or shorter than its header states.
    """
    with open_regular(path) as file:
        return _checked_head(path, file)


def read_array(path: Path, kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The array in a ``.npy`` file; ``UnreadableError`` as in ``read_head``, or if it differs."""
    with open_regular(path) as file:
        head = _checked_head(path, file)
        _refuse_other(path, head, kind, shape)
        file.seek(head.begin)
        numbers = np.fromfile(file, kind, math.prod(shape))
    if numbers.size != math.prod(shape):
        raise UnreadableError(path, "it was truncated while it was read")
    return head.arranged(numbers)


def read_floats(path: Path, wanted: ArrayHeader) -> np.ndarray:
    """The array with the header ``wanted``, of floats of any size, as float32.

    Converts block by block. Numbers beyond float32 become infinite. Raises ``UnreadableError`` as
    ``read_head`` does, or if the file has another header by now.
    """
    with open_regular(path) as file:
        head = _checked_head(path, file)
        _refuse_other(path, head, wanted.kind, wanted.shape)
        file.seek(head.begin)
        found = np.empty(math.prod(head.shape), np.float32)
        for start in range(0, len(found), _BLOCK):
            part = found[start : start + _BLOCK]
            numbers = np.fromfile(file, head.kind, len(part))
            if len(numbers) < len(part):
                raise UnreadableError(path, "it became shorter while it was read")
            with np.errstate(over="ignore"):
                part[:] = numbers
    return head.arranged(found)


def map_array(path: Path, kind: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """Like ``read_array`` for large arrays: memory-mapped, read-only, in C order."""
    with open_regular(path) as file:
        head = _checked_head(path, file)
        _refuse_other(path, head, kind, shape)
        if head.is_transposed and len(shape) > 1:
            raise UnreadableError(path, "its values are in Fortran order")
        return np.memmap(file, kind, "r", head.begin, shape)


def _checked_head(path: Path, file: BinaryIO) -> ArrayHeader:
    try:
        head = parse_head(file)
    except ValueError as error:
        raise UnreadableError(path, str(error)) from None
    size = os.fstat(file.fileno()).st_size - head.begin
    if size != head.size:
        raise UnreadableError(path, f"it has {size:,} bytes of data; {head} needs {head.size:,}")
    return head


def _refuse_other(path: Path, head: ArrayHeader, kind: np.dtype, shape: tuple[int, ...]) -> None:
    if (head.kind, head.shape) != (kind, shape):
        wanted = ArrayHeader(kind, shape, False, 0)
        raise UnreadableError(path, f"it is {head}, not {wanted}")


def parse_head(file: IO[bytes]) -> ArrayHeader:
    """The header at the start of ``file``; ``ValueError`` with a description if it is invalid."""
    magic = file.read(len(_MAGIC))
    if magic != _MAGIC:
        raise ValueError("it is not a NumPy array (.npy)")
    version = file.read(2)
    if version not in _LENGTHS:
        raise ValueError(
            f"its NumPy format version is {'.'.join(map(str, version))}, not 1.0 or 2.0"
        )
    length = _LENGTHS[version]
    (size,) = length.unpack(exactly(file, length.size))
    if size > _LONGEST_TEXT:
        raise ValueError(f"its header has {size:,} bytes, more than {_LONGEST_TEXT:,}")
    found = _TEXT.fullmatch(exactly(file, size))
    items = (
        {} if found is None else dict(zip(found.groups()[::2], found.groups()[1::2], strict=True))
    )
    if len(items) < 3:
        raise ValueError("its header was not written by NumPy")
    begin = len(_MAGIC) + 2 + length.size + size
    order = items[b"fortran_order"]
    if order not in (b"True", b"False"):
        raise ValueError("its header was not written by NumPy")
    return ArrayHeader(_kind(items[b"descr"]), _shape(items[b"shape"]), order == b"True", begin)


def exactly(file: IO[bytes], size: int) -> bytes:
    """The next ``size`` bytes; ``ValueError`` if there are fewer."""
    content = file.read(size)
    if len(content) < size:
        raise ValueError("its header is truncated")
    return content


def _kind(text: bytes) -> np.dtype:
    found = _KIND.fullmatch(text)
    try:
        if found is not None:
            return np.dtype(found[1].decode())
    except TypeError:
        pass
    raise ValueError(f"it holds {text[:40].decode('latin-1')}; numbers are expected")


def _shape(text: bytes) -> tuple[int, ...]:
    lengths = [part for part in text.strip(b"()").split(b",") if part.strip()]
    if _SHAPE.fullmatch(text) is None or len(lengths) > _MOST_AXES:
        raise ValueError(f"its shape is {text[:40].decode('latin-1')}")
    return tuple(map(int, lengths))
