"""Reading variables of MATLAB files (version 5 to 7, ``.mat``): numbers, texts, cells of texts.

Reads only what lists of images consist of. Allocates no more than the file's own size, plus a
bounded amount for compressed data. Source: MathWorks, MAT-File Format, 2019.
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.files import read_whole

MAX_FILE_BYTES = 1 << 26
_MOST_UNPACKED = 1 << 28
_HEAD = 128
_MATRIX, _COMPRESSED = 14, 15
_CELL, _CHAR = 1, 4
_MOST_AXES = 32
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}

Value = np.ndarray | str | list["np.ndarray | str"]


def read_mat(path: Path) -> dict[str, Value]:
    """The variables by name: an array, flat in MATLAB's order, a text, or a cell as a list.

    Raises ``UserError`` if the file is not a MATLAB file, or damaged.
    """
    data = read_whole(path, MAX_FILE_BYTES)
    if data[:8] == b"\x89HDF\r\n\x1a\n" or data[:10] == b"MATLAB 7.3":
        raise UserError(
            f"{path} has the format of MATLAB 7.3 (HDF5), which cannot be read; save it with -v7"
        )
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or len(data) < _HEAD:
        raise UserError(f"{path} is not a MATLAB file (.mat, version 5 to 7)")
    reader = _MatReader(order)
    try:
        return dict(reader.variables(data[_HEAD:]))
    except (ValueError, struct.error, zlib.error, IndexError) as error:
        raise UserError(f"{path} is damaged: {error}") from None


class _MatReader:
    """Reads files of one byte order."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._unpacked = 0

    def variables(self, data: bytes) -> Iterator[tuple[str, Value]]:
        for kind, content in self._elements(data):
            if kind == _COMPRESSED:
                yield from self.variables(self._unpack(content))
            elif kind == _MATRIX:
                name, value = self._matrix(content)
                if value is not None:
                    yield name, value

    def _unpack(self, content: bytes) -> bytes:
        unpacked = zlib.decompressobj().decompress(content, _MOST_UNPACKED - self._unpacked + 1)
        self._unpacked += len(unpacked)
        if self._unpacked > _MOST_UNPACKED:
            raise ValueError(f"it unpacks to more than {_MOST_UNPACKED:,} bytes")
        if unpacked[:4] == struct.pack(f"{self._order}I", _COMPRESSED):
            raise ValueError("it is compressed twice")
        return unpacked

    def _elements(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and bytes of each element in a sequence."""
        place = 0
        while place + 8 <= len(data):
            kind, size = struct.unpack_from(f"{self._order}II", data, place)
            begin, step = place + 8, size + -size % 8
            if kind >> 16:  # the tag itself holds up to four bytes
                kind, size, begin, step = kind & 0xFFFF, kind >> 16, place + 4, 0
                if size > 4:
                    raise ValueError("a small element has more than four bytes")
            if begin + size > len(data):
                raise ValueError("it is cut off")
            yield kind, data[begin : begin + size]
            place += 8 + (size if kind == _COMPRESSED else step)

    def _matrix(self, content: bytes, depth: int = 0) -> tuple[str, Value | None]:
        """The name and the value; None for unsupported kinds."""
        elements = self._elements(content)
        head = list(islice(elements, 3))
        if len(head) < 3:
            raise ValueError("an array has no flags, shape or name")
        (_, flags), (_, shape), (_, name) = head
        if len(shape) > 4 * _MOST_AXES:
            raise ValueError(
                f"an array has {len(shape) // 4:,} axes; at most {_MOST_AXES} are read"
            )
        (kind,) = struct.unpack_from(f"{self._order}I", flags)
        count = prod(np.frombuffer(shape, f"{self._order}i4").tolist())
        text = name.decode("latin-1")
        kind &= 0xFF
        if kind == _CELL and depth == 0:
            cells = [self._matrix(cell, 1)[1] for each, cell in elements if each == _MATRIX]
            if len(cells) != count:
                raise ValueError(f"the cells of {text[:40]!r} are {len(cells)}, not {count}")
            return text, [np.empty(0) if cell is None else cell for cell in cells]  # type: ignore[misc]
        how, values = next(elements, (0, b""))
        if not how or not (kind == _CHAR or 6 <= kind <= 15):
            return text, None
        if kind == _CHAR:
            return text, self._text(how, values)
        if how not in _NUMBERS:
            raise ValueError(f"{text[:40]!r} holds no numbers")
        numbers = np.frombuffer(values, f"{self._order}{_NUMBERS[how]}")
        if len(numbers) != count:
            raise ValueError(f"{text[:40]!r} has {len(numbers)} numbers, not {count}")
        return text, numbers

    def _text(self, how: int, values: bytes) -> str:
        encoding = _TEXTS.get(how)
        if encoding is None:
            raise ValueError("a string has an unknown encoding")
        if encoding in ("utf-16", "utf-32"):
            encoding += "-le" if self._order == "<" else "-be"
        return values.decode(encoding, "replace")
