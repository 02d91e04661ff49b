"""Small pictures inside the page: data URIs."""

import base64
from dataclasses import dataclass

from curation.errors import UserError
from curation.images import decode, encode_jpeg

LARGE = 112
"""Longer side, in pixels, of the face that a case is about: aligned faces as they are."""
SMALL = 80
"""Longer side of the faces beside it."""
_QUALITY = {LARGE: 85, SMALL: 78}


@dataclass(frozen=True)
class Picture:
    """A thumbnail; ``uri`` is None where the image cannot be decoded."""

    uri: str | None
    width: int
    height: int


def thumbnail(data: bytes, side: int) -> Picture:
    """The image file ``data``, at most ``side`` (``LARGE`` or ``SMALL``) pixels long or wide.

    Smaller images stay as large as they are. What cannot be decoded is no error here: the page is
    where people look for bad images.
    """
    import cv2

    try:
        pixels = decode(data)
    except UserError:
        return Picture(None, side, side)
    scale = min(1.0, side / max(pixels.shape[:2]))
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    encoded = base64.b64encode(encode_jpeg(pixels, _QUALITY[side])).decode()
    return Picture(f"data:image/jpeg;base64,{encoded}", width, height)
