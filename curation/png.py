"""PNG files: validation and reduction before they reach the decoder.

Sources: the PNG specification (ISO/IEC 15948), and the checks of libpng.
"""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from curation.jpeg import DamagedError

START = b"\x89PNG\r\n\x1a\n"
HEADER_LENGTH = 24
"""Up to and including the size"""
_HEADER_END = 33
"""Bytes up to the end of the chunk IHDR"""
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_MOST_CHUNKS = 100_000
_MOST_BYTES = 256 << 20
"""Maximum bytes of decompressed pixel data: four for each of the maximum number of pixels"""

_PALETTE_COLOURS = 3
_CHANNELS = {0: 1, 2: 3, _PALETTE_COLOURS: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), _PALETTE_COLOURS: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# Of an interlaced file: the first column and row of each of seven passes, and the steps.
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


class _Header(NamedTuple):
    """The content of the chunk IHDR."""

    width: int
    height: int
    depth: int
    colours: int
    is_interlaced: bool

    def raw_bytes(self) -> int:
        """The number of bytes of the decompressed pixel data."""
        passes = _ADAM7 if self.is_interlaced else ((0, 0, 1, 1),)
        return sum(self._pass_bytes(*one) for one in passes)

    def _pass_bytes(self, left: int, top: int, across: int, down: int) -> int:
        width, height = -(-(self.width - left) // across), -(-(self.height - top) // down)
        # Each line has a filter byte.
        line = 1 + (width * _CHANNELS[self.colours] * self.depth + 7) // 8
        return height * line if width > 0 < height else 0


def png_size(data: bytes) -> tuple[int, int] | None:
    """(height, width), or None if it is not a PNG header."""
    if len(data) < HEADER_LENGTH or data[8:16] != b"\0\0\0\x0dIHDR":
        return None
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def plain_png(data: bytes) -> bytes:
    """The file reduced to its header, palette and pixels, with uncompressed pixel data.

    Transparency, orientation, colour profiles, texts and animation frames are removed, so pixels
    are as stored. No chunk can allocate more memory than the file has, and pixels not more than
    their number requires. A missing end is added. Raises ``DamagedError``.
    """
    header = _header(data)
    packed, palette = [], b""
    for kind, content in _chunks(data):
        if kind == b"IDAT":
            packed.append(content)
        elif palette:
            raise DamagedError("it has two palettes")
        else:
            palette = _palette(content)
    if header.colours == _PALETTE_COLOURS and not palette:
        raise DamagedError("its palette is missing")
    raw = _inflate(b"".join(packed), header.raw_bytes())
    parts = [data[:_HEADER_END]]
    if header.colours == _PALETTE_COLOURS:
        parts.append(_chunk(b"PLTE", palette))
    return b"".join([*parts, _chunk(b"IDAT", zlib.compress(raw, 0)), _END])


def _header(data: bytes) -> _Header:
    size = png_size(data)
    if size is None or len(data) < _HEADER_END:
        raise DamagedError("it ends early")
    _check_sum(data, 12, _HEADER_END)
    depth, colours, *methods, interlaced = data[24:29]
    if depth not in _DEPTHS.get(colours, ()) or any(methods) or interlaced > 1:
        raise DamagedError("its header states a kind of pixels that PNG does not have")
    return _Header(size[1], size[0], depth, colours, bool(interlaced))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the palette and pixel chunks."""
    position = _HEADER_END
    for _ in range(_MOST_CHUNKS):
        length = int.from_bytes(data[position : position + 4], "big")
        kind, end = data[position + 4 : position + 8], position + 12 + length
        if kind == b"IEND" or position >= len(data):
            return
        if end > len(data):
            raise DamagedError("it ends early")
        if kind == b"IHDR":
            raise DamagedError("it has two headers")
        if kind in (b"PLTE", b"IDAT"):
            _check_sum(data, position + 4, end)
            yield kind, data[position + 8 : end - 4]
        position = end
    raise DamagedError(f"it has more than {_MOST_CHUNKS:,} chunks")


def _check_sum(data: bytes, begin: int, end: int) -> None:
    """``begin`` is the position of a chunk's kind, ``end`` is after its checksum."""
    if zlib.crc32(data[begin : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
        raise DamagedError(f"the checksum of its {data[begin : begin + 4].decode()} is wrong")


def _palette(content: bytes) -> bytes:
    if not content or len(content) > 3 * 256 or len(content) % 3:
        raise DamagedError(f"its palette has {len(content)} bytes")
    return content


def _inflate(packed: bytes, size: int) -> bytes:
    """Decompress the pixel data to exactly ``size`` bytes: a few may expand to terabytes."""
    if size > _MOST_BYTES:
        raise DamagedError(f"its pixels have {size:,} bytes; at most {_MOST_BYTES:,} are read")
    try:
        raw = zlib.decompressobj().decompress(packed, size + 1)
    except zlib.error:
        raise DamagedError("its compressed pixels are damaged") from None
    if len(raw) != size:
        raise DamagedError("it ends early" if len(raw) < size else "it has too many pixels")
    return raw


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return len(content).to_bytes(4, "big") + kind + content + checksum.to_bytes(4, "big")
