"""Reads msgpack values that hold an image and a label: an array of an image file and one whole
number, or a map of an image file and a label under one of the usual keys.

Everything else in them is skipped. Source: msgpack/spec.md.
"""

import re
import struct

from curation.file_kinds import BEGINNING_BYTES, kind_of
from curation.labels import UNLABELLED
from curation.sources.entries import whole_label
from curation.sources.label_choice import usual_key

_SIZES = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
          0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
          0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}  # fmt: skip
"""Bytes of nothing, booleans, numbers and extensions"""
_COUNTS = {0xC4: ">B", 0xC5: ">H", 0xC6: ">L", 0xC7: ">B", 0xC8: ">H", 0xC9: ">L", 0xD9: ">B",
           0xDA: ">H", 0xDB: ">L", 0xDC: ">H", 0xDD: ">L", 0xDE: ">H", 0xDF: ">L"}  # fmt: skip
"""Bytes, extensions and text by their length; arrays and maps by their number of elements"""
_INTEGERS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">L", 0xCF: ">Q",
             0xD0: ">b", 0xD1: ">h", 0xD2: ">l", 0xD3: ">q"}  # fmt: skip
_CONTENTS = frozenset({0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB, *range(0xA0, 0xC0)})
"""Bytes and text"""
_MAPS = frozenset({0xDE, 0xDF, *range(0x80, 0x90)})
_MOST_PARTS = 32
_ALLOWED = "neither a JPEG or PNG file nor msgpack of (image file, label)"
_REFUSED = f"its value is {_ALLOWED}"
_PICKLE = re.compile(rb"\x80[\x02-\x05]")

Part = bytes | int | None
"""Bytes or text, a whole number, or anything else"""


def image_and_label(value: bytes) -> tuple[bytes, int]:
    """The image file and its label; ``ValueError`` if the value does not hold one of each."""
    if _PICKLE.match(value):
        raise ValueError(
            "its value is a pickle, which can run code when it is read; write the images with the "
            "program that made it, as files IDENTITY/*.jpg"
        )
    try:
        parts = _parts(value)
    except (IndexError, struct.error):
        parts = []
    if not parts:
        kind = kind_of(value[:BEGINNING_BYTES])
        if kind is None or kind.is_text:
            raise ValueError(_REFUSED)
        raise ValueError(f"its value is {kind.what}, {_ALLOWED}")
    image, label = (_of_map if value[0] in _MAPS else _of_array)(parts)
    if not isinstance(image, bytes):
        raise ValueError(_REFUSED)
    return image, whole_label(label)


def _of_array(parts: list[Part]) -> tuple[Part, Part]:
    numbers = [part for part in parts[1:] if isinstance(part, int)]
    if len(parts) > 1 and len(numbers) != 1:
        raise ValueError(
            f"its value has {len(numbers)} whole numbers beside the image; expected the label alone"
        )
    return parts[0], numbers[0] if numbers else UNLABELLED


def _of_map(parts: list[Part]) -> tuple[Part, Part]:
    found = {
        key.decode("utf-8", "replace"): part
        for key, part in zip(parts[::2], parts[1::2], strict=True)
        if isinstance(key, bytes)
    }
    label = usual_key(found)
    images = [part for key, part in found.items() if isinstance(part, bytes) and key != label]
    return max(images, key=len, default=None), UNLABELLED if label is None else found[label]


def _parts(value: bytes) -> list[Part]:
    """The elements of an array, or the keys and values of a map; [] for anything else.

    Raises ``IndexError`` or ``struct.error`` if the value is cut off.
    """
    place, _, count = _head(value, 0)
    if count > _MOST_PARTS:
        return []
    parts: list[Part] = []
    for _ in range(count):
        begin, (content, size, _) = place, _head(value, place)
        place = _after(value, place)
        if value[begin] in _CONTENTS:
            parts.append(value[content : content + size])
        else:
            parts.append(_integer(value, begin))
    return parts if place == len(value) else []


def _integer(value: bytes, place: int) -> int | None:
    mark = value[place]
    if mark < 0x80 or mark >= 0xE0:
        return mark if mark < 0x80 else mark - 256
    form = _INTEGERS.get(mark)
    return None if form is None else int(struct.unpack_from(form, value, place + 1)[0])


def _after(value: bytes, place: int) -> int:
    """The end of the element at ``place``, with all elements in it."""
    left = 1
    while left:
        content, size, inner = _head(value, place)
        place, left = content + size, left - 1 + inner
    return place


def _head(value: bytes, place: int) -> tuple[int, int, int]:
    """Where an element's content begins, its bytes, and the number of elements in it."""
    mark = value[place]
    if mark < 0x80 or mark >= 0xE0:
        return place + 1, 0, 0
    if mark < 0xA0:
        return place + 1, 0, (mark & 15) * (2 if mark in _MAPS else 1)
    if mark < 0xC0:
        return place + 1, mark & 31, 0
    if mark in _SIZES:
        return place + 1, _SIZES[mark], 0
    if mark not in _COUNTS:
        raise IndexError  # 0xc1 is never used
    content = place + 1 + struct.calcsize(_COUNTS[mark])
    count = int(struct.unpack_from(_COUNTS[mark], value, place + 1)[0])
    if mark >= 0xDC:
        return content, 0, count * (2 if mark in _MAPS else 1)
    return content, count + (0xC7 <= mark <= 0xC9), 0
