"""Reads msgpack values that hold an image and a label: an array that begins with bytes and ends
with a whole number. Other msgpack types are not decoded. Source: msgpack/spec.md.
"""

import re
import struct

from curation.file_kinds import BEGINNING_BYTES, kind_of
from curation.labels import UNLABELLED
from curation.sources.entries import whole_label

_LENGTHS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">L", 0xD9: ">B", 0xDA: ">H", 0xDB: ">L"}
"""Bytes and text"""
_INTEGERS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">L", 0xCF: ">Q",
             0xD0: ">b", 0xD1: ">h", 0xD2: ">l", 0xD3: ">q"}  # fmt: skip
_LAST = ((9, (0xCF, 0xD3)), (5, (0xCE, 0xD2)), (3, (0xCD, 0xD1)), (2, (0xCC, 0xD0)))
_ALLOWED = "neither a JPEG or PNG file nor msgpack of (image file, label)"
_REFUSED = f"its value is {_ALLOWED}"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")


def image_and_label(value: bytes) -> tuple[bytes, int]:
    """The bytes at the start of the array and the number at its end; ``ValueError`` if not so."""
    if _PICKLE.match(value):
        raise ValueError(
            "its value is a pickle, which can run code when it is read; write the images with the "
            "program that made it, as files IDENTITY/*.jpg"
        )
    count = value[0] & 0x0F if value[:1] and value[0] & 0xF0 == 0x90 else 0
    if count == 0 or len(value) < 3:
        kind = kind_of(value[:BEGINNING_BYTES])
        if kind is None or kind.is_text:
            raise ValueError(_REFUSED)
        raise ValueError(f"its value is {kind.what}, {_ALLOWED}")
    form = _LENGTHS.get(value[1])
    if form is not None:
        begin = 2 + struct.calcsize(form)
        if len(value) < begin:
            raise ValueError(_REFUSED)
        size = struct.unpack_from(form, value, 2)[0]
    elif value[1] & 0xE0 == 0xA0:
        begin, size = 2, value[1] & 0x1F
    else:
        raise ValueError(_REFUSED)
    end = begin + size
    if end > len(value):
        raise ValueError(_REFUSED)
    return value[begin:end], UNLABELLED if count == 1 else whole_label(_last(value, end, count))


def _last(value: bytes, end: int, count: int) -> int:
    """The whole number at the end of the value; in a pair it directly follows the first part."""
    left = len(value) - end
    for size, marks in _LAST:
        if left >= size and value[-size] in marks and (count > 2 or left == size):
            number: int = struct.unpack_from(_INTEGERS[value[-size]], value, len(value) - size + 1)[
                0
            ]
            return number
    if left >= 1 and (count > 2 or left == 1) and value[-1] < 0x80:
        return value[-1]
    if left == 1 and value[-1] == 0xFF:
        return UNLABELLED
    raise ValueError(_REFUSED)
