"""Reads Caffe's ``Datum`` messages that hold an image file (``convert_imageset --encoded``).

Sources: caffe.proto; Protocol Buffers' description of the wire format.
"""

from collections.abc import Iterator
from itertools import islice

from curation.labels import UNLABELLED
from curation.sources.entries import whole_label

_DATA, _LABEL, _ENCODED = 4, 5, 7
_BEGINNINGS = (0x08, 0x22)
"""The tags of ``channels`` and, if an encoder leaves out the size, ``data``"""
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 10
_MOST_FIELDS = 16
"""A datum of an image file has seven; raw features are one field each"""
_DAMAGED = "its value is a damaged Datum of Caffe"


def is_datum(value: bytes) -> bool:
    """Whether the value begins as a datum; msgpack and image files do not."""
    return value[:1] != b"" and value[0] in _BEGINNINGS


def image_and_label(value: bytes) -> tuple[bytes, int]:
    """The image file and its label; ``ValueError`` if the datum holds raw pixels or is damaged."""
    fields = dict(islice(_fields(value), _MOST_FIELDS))
    data, label = fields.get(_DATA), fields.get(_LABEL, UNLABELLED)
    if not fields.get(_ENCODED) or not isinstance(data, bytes):
        raise ValueError(
            "its value is a Datum of Caffe with raw pixels; write the set again with "
            "`convert_imageset --encoded`, or the images as files IDENTITY/*.png"
        )
    return data, whole_label(_signed(label) if isinstance(label, int) else label)


def _fields(value: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The number and the value of each field; ``ValueError`` if the message is damaged."""
    place = 0
    while place < len(value):
        tag, place = _varint(value, place)
        kind = tag & 7
        if kind == _VARINT:
            number, place = _varint(value, place)
            yield tag >> 3, number
            continue
        if kind == _BYTES:
            size, place = _varint(value, place)
        elif kind in (_FOUR_BYTES, _EIGHT_BYTES):
            size = 4 if kind == _FOUR_BYTES else 8
        else:
            raise ValueError(_DAMAGED)
        if size > len(value) - place:
            raise ValueError(_DAMAGED)
        yield tag >> 3, value[place : place + size]
        place += size


def _varint(value: bytes, place: int) -> tuple[int, int]:
    """The number at ``place`` and the place after it."""
    number = 0
    for shift, byte in enumerate(value[place : place + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number, place + shift + 1
    raise ValueError(_DAMAGED)


def _signed(number: int) -> int:
    """The 64-bit two's complement as which negative numbers are written."""
    return number - (1 << 64) if number >= 1 << 63 else number
