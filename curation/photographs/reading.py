"""Decodes photographs from cameras, scanners and browsers as a person sees them.

Unlike a store's images (``curation.images``), photographs are rotated by their EXIF orientation,
and may have more formats and any size: a huge JPEG is decoded at a half, a quarter or an eighth.
From animations the first frame is used, from 16-bit images the upper eight bits. Run it in a
process with resource limits: the libraries that decode TIFF and WebP have none.
"""

import re
from typing import TYPE_CHECKING, Literal

from curation import jpeg
from curation.errors import UserError
from curation.file_kinds import BEGINNING_BYTES, kind_of
from curation.images import MAX_PIXELS

if TYPE_CHECKING:
    import numpy as np

MAX_PHOTOGRAPH_BYTES = 256 << 20
"""A TIFF file of 40 megapixels in 16 bits"""
READ_KINDS = ("JPEG", "PNG", "WebP", "TIFF", "BMP", "GIF")
_ORIENTATION, _SHORT = 0x0112, 3
_MOST_TAGS = 1000
_APP1 = b"\xff\xe1"
_EXIF = b"Exif\0\0"


def read_photograph(data: bytes) -> "np.ndarray":
    """Pixels of a photograph's file: uint8 RGB ``[H, W, 3]``, upright.

    Raises ``UserError`` with a reason that lacks its subject ("is damaged: ...") if the file is not
    one of ``READ_KINDS``, is damaged or truncated, or has too many pixels.
    """
    kind = kind_of(data[:BEGINNING_BYTES])
    if kind is None or kind.name.removeprefix("image ") not in READ_KINDS:
        if kind is not None and not kind.name.startswith("image "):
            raise UserError(f"is {kind.what}, not an image; {kind.advice}")
        known = "is not an image" if kind is None else f"is {kind.what}"
        raise UserError(f"{known}; convert it to one of {', '.join(READ_KINDS)}")
    if kind.name == "image JPEG":
        return turn_upright(_read_jpeg(data), exif_orientation(data))
    return _read_other(data)


def _read_jpeg(data: bytes) -> "np.ndarray":
    frame = jpeg.find_frame(data)
    if frame is None or 0 in (frame.height, frame.width):
        raise UserError("is damaged: its header states no size")
    try:
        for shrink in (1, 2, 4, 8):
            if frame.height * frame.width <= MAX_PIXELS * shrink**2:
                return jpeg.decode_jpeg(data, frame, shrink)
    except jpeg.DamagedError as error:
        raise UserError(f"is damaged: {error}") from None
    raise UserError(f"has {frame.width:,}x{frame.height:,} pixels, which is too large")


def _read_other(data: bytes) -> "np.ndarray":
    import cv2
    import numpy as np

    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        reason = re.sub(r"\s+", " ", str(error.err))[:100]
        too_large = "MAX_IMAGE" in reason
        what = f"has more than {MAX_PIXELS:,} pixels" if too_large else f"cannot be read ({reason})"
        raise UserError(what) from None
    if pixels is None or pixels.dtype != np.uint8:
        raise UserError("is damaged, or a variant of its format that cannot be read")
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise UserError(f"has {pixels.shape[1]:,}x{pixels.shape[0]:,} pixels, which is too large")
    return pixels


def turn_upright(pixels: "np.ndarray", orientation: int) -> "np.ndarray":
    """Rotate stored pixels ``[H, W, C]`` upright; ``orientation`` is the EXIF value 1 ... 8."""
    import numpy as np

    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    # In the transposed image, 6 and 7 are mirrored, 7 and 8 upside down.
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def exif_orientation(data: bytes) -> int:
    """The EXIF orientation of a JPEG file, 1 ... 8; 1 if it states none."""
    position = 2
    while data[position : position + 1] == b"\xff":
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position : position + 2] == _APP1 and data.startswith(_EXIF, position + 4):
            return _orientation_of_tiff(data[position + 10 : position + 2 + length])
        if not 0xE0 <= data[position + 1] <= 0xEF or length < 2:  # EXIF is in an early segment
            return 1
        position += 2 + length
    return 1


def _orientation_of_tiff(tiff: bytes) -> int:
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"

    def number(position: int, size: int) -> int:
        return int.from_bytes(tiff[position : position + size], order)

    first = number(4, 4)
    for entry in range(min(number(first, 2), _MOST_TAGS)):
        place = first + 2 + 12 * entry
        if number(place, 2) == _ORIENTATION and number(place + 2, 2) == _SHORT:
            orientation = number(place + 8, 2)
            return orientation if 1 <= orientation <= 8 else 1
    return 1
