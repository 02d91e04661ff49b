"""JPEG files: the size as libjpeg finds it, and the pixels as they are stored.

Decodes with libjpeg-turbo through simplejpeg, which reports errors that other bindings ignore: for
damaged or truncated image data they return pixels too, partly grey. Such a file is refused here. An
EXIF orientation and a colour profile are not applied; MXNet, PIL and torchvision do not apply them
either.
"""

import math
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

START = b"\xff\xd8\xff"
END_OF_IMAGE = b"\xff\xd9"

# ITU-T T.81, table B.1. A marker is any number of 0xFF and a byte that is neither 0 nor 0xFF.
# Anything between a segment and the next marker is skipped.
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_MOST_MARKERS = 1000
"""Before the frame header; a colour profile with the maximum number of pieces has 255."""
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xCA)
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_PASSED_OVER = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})
_START_OF_SCAN = b"\xff\xda"
# Markers after the frame header, except those within a scan's data.
_BETWEEN_SCANS = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)
_MOST_SCANS = 100
"""A progressive file has ten, in CMYK eighteen. A scan of few bytes costs time for all pixels."""
_USUAL_SCANS = 32
_MOST_SCANNED_PIXELS = _USUAL_SCANS << 26
"""Scans times pixels"""
_CMYK = 4

# Warnings of libjpeg (jerror.h) after which the pixels are complete.
_HARMLESS = re.compile(
    "Unknown Adobe color transform|unknown JFIF revision|Invalid SOS parameters|"
    "extraneous bytes before marker 0x(?!d[0-9])"
)
_MOST_EXTRANEOUS_BYTES = 256
_MOST_EXTRANEOUS_RUNS = 4
"""libjpeg does not count fill bytes, so several decodings may be needed to pass over all bytes"""
_BEFORE_THE_END = re.compile(r"(\d+) extraneous bytes before marker 0xd9")


class DamagedError(ValueError):
    """An image file that cannot be decoded; the message is the reason, after "damaged: "."""


class Frame(NamedTuple):
    """A JPEG's frame header: its position in the file, its kind, and its content."""

    position: int
    """Position of the marker's last byte"""
    marker: int
    height: int
    width: int
    components: int


def find_frame(data: bytes) -> Frame | None:
    """The frame header from which libjpeg takes the size; None if it would find none.

    Walks the marker segments as ``jdmarker.c`` does, so that a file cannot present another size.
    """
    position = 2
    for _ in range(_MOST_MARKERS):
        found = _MARKER.search(data, position)
        if found is None:
            return None
        marker, position = found[1][0], found.end()
        if marker in _START_OF_FRAME:
            return _frame(data, position, marker)
        if marker in _WITHOUT_LENGTH:
            continue
        if marker not in _PASSED_OVER:  # an end, a scan, or unknown to libjpeg
            return None
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return None


def _frame(data: bytes, position: int, marker: int) -> Frame | None:
    # Length, precision, height, width, components
    if len(data) < position + 8:
        return None
    height = int.from_bytes(data[position + 3 : position + 5], "big")
    width = int.from_bytes(data[position + 5 : position + 7], "big")
    return Frame(position, marker, height, width, data[position + 7])


def _check_scans(data: bytes, frame: Frame) -> None:
    """Raise ``DamagedError`` if small scans would take minutes to decode."""
    most = min(_MOST_SCANS, _MOST_SCANNED_PIXELS // (frame.height * frame.width))
    if data.count(_START_OF_SCAN) <= most:  # almost always, without parsing
        return
    scans = sum(1 for _ in _scan_headers(data, frame))
    if scans > most:
        raise DamagedError(f"it has {scans} scans; at most {most} are read at its size")


def _scan_headers(data: bytes, frame: Frame) -> "Iterator[int]":
    """The position of each scan header's length, up to the end marker or the end of the data."""
    position = frame.position + int.from_bytes(data[frame.position : frame.position + 2], "big")
    for _ in range(_MOST_MARKERS):
        found = _BETWEEN_SCANS.search(data, position)
        if found is None or found[0] == END_OF_IMAGE:
            return
        if found[0] == _START_OF_SCAN:
            yield found.end()
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    raise DamagedError(f"it has more than {_MOST_MARKERS} segments")


def room_for_pixels(shape: tuple[int, ...]) -> "np.ndarray":
    """Uninitialised uint8 memory of this shape, placed so that libjpeg-turbo fills it fastest.

    Rows at multiples of 32 bytes are written with non-temporal stores (``jdcolext-avx2.asm``):
    decoding a face then takes a third longer, and its next reader waits for memory. NumPy aligns
    its memory, so this starts at an odd address, and hardly any row is aligned like that.
    """
    import numpy as np

    return np.empty(math.prod(shape) + 1, np.uint8)[1:].reshape(shape)


def decode_jpeg_into(target: "np.ndarray", data: bytes) -> bool:
    """Decode an ordinary JPEG file into contiguous uint8 RGB ``[H, W, 3]``; returns success.

    In ``[H, W, 4]`` the fourth channel is set to 255. It fails for damaged and unusual files and
    for other sizes; the target is then undefined, and ``decode_jpeg`` gives details.
    """
    import simplejpeg

    if _has_many_scans(data):
        return False
    colours = "RGB" if target.shape[2] == 3 else "RGBA"
    try:
        shape: tuple[int, ...] = simplejpeg.decode_jpeg(data, colours, buffer=target).shape
    except ValueError:
        return False
    return shape == target.shape


def is_usual_and_whole(data: bytes) -> bool:
    """Whether ``decode_jpeg_into`` would decode the file, at half its cost.

    Reads all image data, which reveals any damage, but computes only an eighth of the pixels.
    """
    import simplejpeg

    if _has_many_scans(data):
        return False
    try:
        simplejpeg.decode_jpeg(data, "RGB", min_height=1, min_width=1, min_factor=8)
    except ValueError:
        return False
    return True


def _has_many_scans(data: bytes) -> bool:
    # Counting single bytes is many times faster than counting pairs, and most faces have few.
    most = _USUAL_SCANS
    return data.count(_START_OF_SCAN[1:]) > most and data.count(_START_OF_SCAN) > most


def decode_jpeg(data: bytes, frame: Frame, shrink: int = 1) -> "np.ndarray":
    """Pixels of a JPEG file, uint8 RGB ``[H, W, 3]``; ``frame`` is its frame header.

    With ``shrink`` 2, 4 or 8 each pixel represents a square of that side, without decoding all
    pixels. A file that lacks only its end marker is accepted. Raises ``DamagedError``.
    """
    _check_scans(data, frame)
    if frame.components == _CMYK:
        return _rgb_of_cmyk(_decode(data, frame, "CMYK", shrink))
    return _decode(data, frame, "RGB", shrink)


def _decode(
    data: bytes, frame: Frame, colours: Literal["RGB", "CMYK"], shrink: int
) -> "np.ndarray":
    # Allocated here with the checked size, instead of by libjpeg with the size it finds.
    height, width = -(-frame.height // shrink), -(-frame.width // shrink)
    pixels = room_for_pixels((height, width, len(colours)))
    scan = data.find(_START_OF_SCAN, frame.position)
    ended = data.find(END_OF_IMAGE, scan) >= 0
    if not ended:
        if not _has_all_scans(data, frame):  # libjpeg does not warn about a missing scan
            raise DamagedError("it ends early")
        data += END_OF_IMAGE
    remark = _remark(data, colours, pixels, shrink, strict=True)
    for _ in range(_MOST_EXTRANEOUS_RUNS):
        if not ended or remark is None or not _BEFORE_THE_END.search(remark):
            break
        data = _without_extraneous_bytes(data, frame, remark)
        remark = _remark(data, colours, pixels, shrink, strict=True)
    if ended and remark is not None and _is_harmless(remark, data, frame):
        remark = _remark(data, colours, pixels, shrink, strict=False)
    if remark is not None:
        raise DamagedError(f"it cannot be decoded ({remark})" if ended else "it ends early")
    return pixels


def _remark(
    data: bytes, colours: str, pixels: "np.ndarray", shrink: int, strict: bool
) -> str | None:
    """libjpeg's error if the file cannot be decoded; warnings too if ``strict``."""
    import simplejpeg

    # libjpeg chooses the smallest image that is at least this large.
    least = (0, 0) if shrink == 1 else pixels.shape[:2]
    try:
        simplejpeg.decode_jpeg(
            data, colours, min_height=least[0], min_width=least[1], buffer=pixels, strict=strict
        )
    except ValueError as error:
        return str(error)
    return None


def _without_extraneous_bytes(data: bytes, frame: Frame, remark: str) -> bytes:
    """The file without the bytes before its end marker that libjpeg warned about.

    libjpeg reports only its last warning. Without these bytes, it reports the one before. Its fast
    path does not warn about invalid codes; therefore, many bytes other than padding count as unread
    image data.
    """
    found = _BEFORE_THE_END.search(remark)
    if found is None:
        return data
    *_, scan = _scan_headers(data, frame)
    end = data.find(END_OF_IMAGE, scan)
    image_data = data[:end].rstrip(b"\xff")  # a marker may follow any number of these
    used = len(image_data) - int(found[1])
    extra = image_data[used:]
    if len(extra) > _MOST_EXTRANEOUS_BYTES and len(set(extra)) > 1:
        raise DamagedError(f"{len(extra)} bytes of its image data are too many for its pixels")
    return image_data[:used] + data[end:]


def _is_harmless(remark: str, data: bytes, frame: Frame) -> bool:
    """Whether the pixels are complete in spite of libjpeg's last warning.

    Extraneous bytes between two scans may follow from damage to the first.
    """
    if _HARMLESS.search(remark) is None:
        return False
    return "extraneous" not in remark or sum(1 for _ in _scan_headers(data, frame)) == 1


def _has_all_scans(data: bytes, frame: Frame) -> bool:
    """Whether the scans together contain every bit of every coefficient; T.81, B.2.3 and G.1."""
    components = data[frame.position + 8 : frame.position + 8 + 3 * frame.components : 3]
    missing = {(component, k) for component in components for k in range(64)}
    for begin in _scan_headers(data, frame):
        end = begin + int.from_bytes(data[begin : begin + 2], "big")
        if end > len(data):
            break
        first, last, bits = data[end - 3 : end] if frame.marker in _PROGRESSIVE else (0, 63, 0)
        if bits & 0x0F == 0:  # the lowest bits
            scanned = data[begin + 3 : end - 3 : 2]
            missing -= {(component, k) for component in scanned for k in range(first, last + 1)}
    return not missing


def _rgb_of_cmyk(cmyk: "np.ndarray") -> "np.ndarray":
    """As OpenCV does it (``icvCvt_CMYK2RGB_8u_C4C3R``): Adobe's files have inverted inks."""
    import numpy as np

    rgb = np.empty((*cmyk.shape[:2], 3), np.uint8)
    for line, inks in zip(rgb, cmyk, strict=True):  # needs little memory for any size
        black = inks[:, 3:].astype(np.int32)
        line[:] = black - ((255 - inks[:, :3].astype(np.int32)) * black >> 8)
    return rgb
