"""Image files as bytes: their properties, without decoding if possible.

Pixels are always uint8 RGB, ``[H, W, 3]``, as stored in the file; this module is the only decoder.
Stores keep the original bytes of files, and ``probe_size`` reads only the header, so a conversion
checks every image at disk speed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from curation import jpeg, png
from curation.errors import UserError
from curation.file_kinds import BEGINNING_BYTES, kind_of
from curation.jpeg import (
    DamagedError,
    decode_jpeg,
    decode_jpeg_into,
    find_frame,
    is_usual_and_whole,
)
from curation.png import plain_png, png_size

if TYPE_CHECKING:
    import numpy as np

MAX_PIXELS = 64 << 20
"""Larger than any camera's face crop; anything larger is a decompression bomb."""
MAX_FILE_BYTES = 32 << 20
"""Far more than an aligned face needs; a whole file must fit into memory."""
_PIXEL_BYTES_TOGETHER = 128 << 20
"""3,566 images of 112x112 pixels; an image of the maximum size exceeds it by itself."""

_CHECKED = 2000
"""Images of a large set that are looked at before it is used"""


def count_together(size: tuple[int, int], most: int) -> int:
    """How many images of this (height, width) to decode together, at most ``most``."""
    return max(1, min(most, _PIXEL_BYTES_TOGETHER // (size[0] * size[1] * 3)))


def encoding_of(data: bytes) -> Literal["jpeg", "png"] | None:
    """``"jpeg"``, ``"png"``, or None for anything else, by the first bytes."""
    if data.startswith(jpeg.START):
        return "jpeg"
    return "png" if data.startswith(png.START) else None


def header_length(data: bytes) -> int:
    """How many bytes of a valid JPEG or PNG file ``probe_size`` needs."""
    frame = find_frame(data) if encoding_of(data) == "jpeg" else None
    return png.HEADER_LENGTH if frame is None else frame.position + 8


def probe_size(data: bytes, what: str = "image") -> tuple[int, int]:
    """(height, width) from the header of a JPEG or PNG file: the size after decoding.

    Raises ``UserError`` naming ``what`` if the bytes are neither, or end before the size.
    """
    if len(data) > MAX_FILE_BYTES:
        raise UserError(f"{what} has {len(data):,} bytes; at most {MAX_FILE_BYTES:,} are allowed")
    encoding = encoding_of(data)
    if encoding is None:
        raise UserError(f"{what} is neither JPEG nor PNG: it {_other_kind(data)}")
    if encoding == "png":
        size = png_size(data)
    else:
        frame = find_frame(data)
        size = None if frame is None else (frame.height, frame.width)
    if size is None or 0 in size:
        raise UserError(f"{what} is damaged: its header states no size")
    return size


def _other_kind(data: bytes) -> str:
    kind = kind_of(data[:BEGINNING_BYTES])
    if kind is None or kind.is_text:
        return f"begins with {data[:4].hex(' ')}"
    return f"is {kind.what}"


def decode(data: bytes, what: str = "image") -> "np.ndarray":
    """Pixels of a JPEG or PNG file: uint8 RGB ``[H, W, 3]``, as stored (docs/formats.md, "Pixels").

    Raises ``UserError`` naming ``what`` if the bytes cannot be decoded.
    """
    _check_size(data, what)
    frame = find_frame(data) if encoding_of(data) == "jpeg" else None
    try:
        return _decode_png(data) if frame is None else decode_jpeg(data, frame)
    except DamagedError as error:
        raise UserError(f"{what} is damaged: {error}") from None


def check_pixels(data: bytes, what: str = "image") -> None:
    """Raise the ``UserError`` of ``decode``, if any; cheaper than decoding all pixels."""
    _check_size(data, what)
    if not is_usual_and_whole(data):
        decode(data, what)


def check_some_pixels(count: int, read: Callable[[int], bytes], name: Callable[[int], str]) -> None:
    """``check_pixels`` of images spread over ``count``: of all up to 2,000, which take a second.

    It finds what is wrong with most of them, such as another format, before long work on all.
    """
    for number in range(count) if count <= _CHECKED else range(0, count, -(-count // _CHECKED)):
        check_pixels(read(number), name(number))


def _check_size(data: bytes, what: str) -> None:
    height, width = probe_size(data, what)
    if height * width > MAX_PIXELS:
        raise UserError(f"{what} is {height}x{width} pixels; an aligned face is far smaller")


def decode_into(target: "np.ndarray", data: bytes, what: str = "image") -> None:
    """``decode`` into ``target``, contiguous uint8 ``[H, W, 3]``; ordinary JPEGs without a copy.

    In a target ``[H, W, 4]`` the fourth channel is set to 255. Raises ``UserError`` naming ``what``
    if the bytes cannot be decoded or the size differs.
    """
    if decode_jpeg_into(target, data):
        return
    pixels = decode(data, what)
    if pixels.shape[:2] != target.shape[:2]:
        found, wanted = (f"{shape[0]}x{shape[1]}" for shape in (pixels.shape, target.shape))
        raise UserError(f"{what} is {found} pixels in a store of {wanted}; make the store again")
    target[..., :3] = pixels
    target[..., 3:] = 255


def _decode_png(data: bytes) -> "np.ndarray":
    import cv2
    import numpy as np

    how = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(plain_png(data), np.uint8), how)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.shape[:2] != png_size(data):
        raise DamagedError("it begins like a PNG file but cannot be decoded")
    return pixels


def encode_jpeg(image: "np.ndarray", quality: int = 95, full_colour: bool = False) -> bytes:
    """uint8 RGB ``[H, W, 3]`` as a JPEG file of the given quality (1 to 100).

    ``full_colour`` disables chroma subsampling (4:4:4 instead of 4:2:0).
    """
    import cv2

    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    how = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if full_colour:
        how += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, encoded = cv2.imencode(".jpg", bgr, how)
    if not done:
        raise RuntimeError("cv2 could not encode the image as JPEG")
    return encoded.tobytes()
