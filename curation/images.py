"""Image files as bytes: what they hold, without decoding where that is not needed.

Pixels are always uint8 RGB, ``[H, W, 3]``. Stores keep the file's bytes as they came, and
``probe_size`` reads only the header, so a conversion checks every image at the disk's speed.
"""

import struct
from typing import TYPE_CHECKING, Literal

from curation.errors import UserError

if TYPE_CHECKING:
    import numpy as np

JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 64 << 20
"""Larger than any camera's face crop; decoding more is a decompression bomb, not a face."""

# Start-of-frame markers hold the size; 0xC4, 0xC8 and 0xCC lie in their range but are others.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_PNG_HEADER = 24


def encoding_of(data: bytes) -> Literal["jpeg", "png"] | None:
    """``"jpeg"``, ``"png"``, or None where the bytes begin like neither."""
    if data.startswith(JPEG_START):
        return "jpeg"
    return "png" if data.startswith(PNG_START) else None


def header_length(data: bytes) -> int:
    """How many bytes ``probe_size`` needs of a JPEG or PNG file that it accepts."""
    return _PNG_HEADER if data.startswith(PNG_START) else _start_of_frame(data) + 9


def probe_size(data: bytes, what: str = "image") -> tuple[int, int]:
    """(height, width) from the header of a JPEG or PNG file.

    Raises ``UserError`` naming ``what`` where the bytes are neither, or end before the size.
    """
    if data.startswith(JPEG_START):
        size = _jpeg_size(data)
    elif data.startswith(PNG_START):
        size = _png_size(data)
    else:
        beginning = data[:4].hex(" ") or "nothing"
        raise UserError(f"{what} is neither JPEG nor PNG: it begins with {beginning}")
    if size is None or 0 in size:
        raise UserError(f"{what} is damaged: its header states no size")
    return size


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = _start_of_frame(data)
    if position < 0:
        return None
    height, width = struct.unpack_from(">HH", data, position + 5)
    return height, width


def _start_of_frame(data: bytes) -> int:
    """Walk the marker segments to the start of frame (ITU-T T.81, B.1.1 and B.2.2); -1: none."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _START_OF_FRAME:
            return position
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            return -1
        # A repeated 0xFF is padding before a marker; every other segment here has a length.
        if marker == 0xFF:
            position += 1
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return -1


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < _PNG_HEADER or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def decode(data: bytes, what: str = "image") -> "np.ndarray":
    """Pixels of a JPEG or PNG file: uint8 RGB ``[H, W, 3]``.

    Raises ``UserError`` naming ``what`` where the bytes cannot be decoded.
    """
    import cv2
    import numpy as np

    height, width = probe_size(data, what)
    if height * width > MAX_PIXELS:
        raise UserError(f"{what} is {height}x{width} pixels; an aligned face is far smaller")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise UserError(f"{what} is damaged: it begins like an image but cannot be decoded")
    return pixels


def encode_jpeg(image: "np.ndarray", quality: int = 95) -> bytes:
    """uint8 RGB ``[H, W, 3]`` as a JPEG file of the given quality (1 to 100)."""
    import cv2

    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError("cv2 could not encode the image as JPEG")
    return encoded.tobytes()
