"""PNG files: what of them reaches the decoder."""

import zlib

from curation.jpeg import DamagedError

START = b"\x89PNG\r\n\x1a\n"
HEADER_LENGTH = 24
"""Up to the size, and with it"""
_NEEDED = (b"IHDR", b"PLTE", b"IDAT")
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"


def png_size(data: bytes) -> tuple[int, int] | None:
    """(height, width), or None where the header is no PNG header."""
    if len(data) < HEADER_LENGTH or data[8:16] != b"\0\0\0\x0dIHDR":
        return None
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def plain_png(data: bytes) -> bytes:
    """The file with nothing but its header, its palette and its pixels.

    Transparency, orientation, colour profiles, texts and the frames of an animation are left out,
    so pixels come as they are stored, and no chunk can ask for more memory than the file has.
    Where only the end is missing, it is added. Raises ``DamagedError``.
    """
    parts = [START]
    position = len(START)
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        kind, end = data[position + 4 : position + 8], position + 12 + length
        if kind == b"IEND":
            break
        if end > len(data):
            raise DamagedError("it ends early")
        if kind in _NEEDED:
            content = data[position + 4 : end - 4]
            if zlib.crc32(content) != int.from_bytes(data[end - 4 : end], "big"):
                raise DamagedError(f"the checksum of its {kind.decode()} is wrong")
            parts.append(data[position:end])
        position = end
    return b"".join([*parts, _END])
