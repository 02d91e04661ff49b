"""Reading pickles of plain data without running anything, for files from the web.

A pickle is a program. Its instructions are first checked against a short list: what lists, tuples,
bytes, numbers and numpy arrays need. The file's length limits their number, and thereby time and
memory. Names in the file are looked up in a table of functions of this module: no module is
imported, numpy's own functions are not called, and no object of the file's choice is created.

The output of numpy depends on its version (``numpy.core`` became ``numpy._core``) and on the
protocol (from 5 on, an array is a buffer). All variants become a ``PlainArray``. Sources: Python's
``pickletools``, numpy's ``array_reduce``, ``array_reduce_ex`` and ``arraydescr_reduce``.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Callable, Iterator
from functools import partial
from math import prod
from typing import Any, NoReturn

import numpy as np

from curation.images import MAX_FILE_BYTES

_OPCODES = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"),
        *("LIST", "EMPTY_LIST", "APPEND", "APPENDS"),
        *("TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
        *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2"),
        *("LONG", "LONG1", "FLOAT", "BINFLOAT"),
        *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    )
)
_BY_CODE = {opcode.code: opcode for opcode in pickletools.opcodes}
_MEMO_WRITES = frozenset(["PUT", "BINPUT", "LONG_BINPUT"])
_LIST_MAKERS = frozenset(["LIST", "EMPTY_LIST"])
_MOST_LISTS = 16
"""A verification set has three. An empty list takes a byte in the file and 64 in memory."""
_FREE_OPCODES = 20_000
_BYTES_PER_OPCODE = 16
"""An image has at least some hundred bytes, and takes up to thirty opcodes as an array."""
_MOST_OPCODES = 1 << 22
_LENGTHS_OF_TEXT = {"BINUNICODE": 4, "BINUNICODE8": 8}
"""Size in bytes of the length before a text; texts of ``UNICODE`` end with their line."""
_LONGEST_TEXT = MAX_FILE_BYTES * 2
"""Bytes: all of an image file as UTF-8, as Python 3 writes bytes in the old protocols"""


class RefusedError(Exception):
    """The pickle needs something that plain data do not."""


def load_plain(data: bytes) -> Any:
    """The content of a pickle: lists, tuples, bytes, text, numbers, booleans, None, ``PlainArray``.

    Python 2 text becomes bytes. Raises ``RefusedError`` if the pickle needs more than that, and any
    other exception if it is damaged.
    """
    _check_opcodes(data)
    return _PlainUnpickler(data).load()


def _check_opcodes(data: bytes) -> None:
    """Refuse unlisted opcodes, and more opcodes or memory than the data account for."""
    allowed = min(_FREE_OPCODES + len(data) // _BYTES_PER_OPCODE, _MOST_OPCODES)
    lists = 0
    for number, (name, argument) in enumerate(_opcodes(data)):
        if name not in _OPCODES:
            raise RefusedError(f"it uses the pickle opcode {name}, which a set does not need")
        if name == "GLOBAL" and argument not in _GLOBALS:
            raise RefusedError(f"it names {argument!r}, which could run code")
        # The unpickler allocates the memo up to the largest index at once.
        if name in _MEMO_WRITES and isinstance(argument, int) and argument > number:
            raise RefusedError(f"it asks for a memo of {argument} entries")
        lists += name in _LIST_MAKERS
        if lists > _MOST_LISTS:
            raise RefusedError(f"it makes more than {_MOST_LISTS} lists")
        if number > allowed:
            raise RefusedError(f"it has more than {allowed} opcodes in {len(data)} bytes")


def _opcodes(data: bytes) -> Iterator[tuple[str, Any]]:
    """Name and argument of each opcode up to ``STOP``, as in ``pickletools.genops``.

    Raises ``RefusedError`` for a text that would take more memory than its bytes: four per
    character if one of them is beyond Latin-1.
    """
    stream = io.BytesIO(data)
    while code := stream.read(1):
        opcode = _BY_CODE.get(code.decode("latin-1"))
        if opcode is None:
            raise ValueError(f"at byte {stream.tell() - 1}, opcode {code!r} unknown")
        if _text_length(opcode.name, data, stream.tell()) > _LONGEST_TEXT:
            raise RefusedError(f"it has a text of more than {_LONGEST_TEXT:,} bytes")
        argument = None if opcode.arg is None else opcode.arg.reader(stream)
        if isinstance(argument, str) and not argument.isascii() and not _is_latin1(argument):
            raise RefusedError("it has a text with letters beyond Latin-1")
        yield opcode.name, argument
        if code == pickle.STOP:
            return
    raise ValueError("pickle exhausted before seeing STOP")


def _text_length(name: str, data: bytes, place: int) -> int:
    if name == "UNICODE":
        return data.find(b"\n", place) - place
    return int.from_bytes(data[place : place + _LENGTHS_OF_TEXT.get(name, 0)], "little")


def _is_latin1(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._left = len(data)

    def find_class(self, module: str, name: str) -> Any:
        found = _GLOBALS.get(f"{module} {name}")
        if found is None:
            raise RefusedError(f"it names {module}.{name}, which could run code")
        return partial(self._copied, found) if found in _COPYING else found

    def _copied(self, copy: Callable[..., Any], *arguments: Any) -> Any:
        """Copy bytes or text of the file, which may refer to the same ones any number of times."""
        self._left -= sum(len(each) for each in arguments[:1] if isinstance(each, str | bytearray))
        if self._left < 0:
            raise RefusedError("it copies the same bytes repeatedly")
        return copy(*arguments)

    def persistent_load(self, identifier: Any) -> NoReturn:
        raise RefusedError("it points to something outside the file")


class PlainType:
    """A numpy dtype of numbers, objects or bytes: its code, such as ``u1``, and byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = _text(code)
        self.order = "|"
        if not _TYPE_CODES.fullmatch(self.code):
            raise RefusedError(f"it has an array of the type {self.code[:20]!r}")

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])
        if self.order not in ("|", "<", ">", "="):
            raise RefusedError(f"it has an array of the byte order {self.order[:20]!r}")


class PlainArray:
    """A numpy array, or a scalar with shape (); ``data`` are bytes, or a list of objects."""

    def __init__(self, kind: PlainType, shape: tuple[int, ...], data: bytes | list) -> None:
        self.type, self.shape, self.data = kind, shape, data

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, _, data = state
        made = _array(kind, shape, data)
        self.type, self.shape, self.data = made.type, made.shape, made.data

    def items(self) -> list:
        """The objects, or the bytes without trailing zeros. Empty for numbers."""
        if isinstance(self.data, list):
            return self.data
        if not self.type.code.startswith("S"):
            return []
        width = int(self.type.code[1:])
        starts = range(0, len(self.data), width)
        return [self.data[start : start + width].rstrip(b"\0") for start in starts]

    def numbers(self) -> np.ndarray | None:
        """The numbers as a flat array; None for objects and bytes."""
        if not isinstance(self.data, bytes) or self.type.code.startswith("S"):
            return None
        order = "<" if self.type.order == "|" else self.type.order
        return np.frombuffer(self.data, order + self.type.code)


def _array(kind: Any, shape: Any, data: Any) -> PlainArray:
    """An array whose data have exactly the size that its type and shape require."""
    if not isinstance(kind, PlainType) or not isinstance(shape, tuple) or len(shape) > 4:
        raise RefusedError("it makes an array without a type or with a wrong shape")
    if not all(type(size) is int and 0 <= size < 1 << 40 for size in shape):
        raise RefusedError("it makes an array with a wrong shape")
    if kind.code.startswith("O"):
        fits = type(data) is list and len(data) == prod(shape)
    else:
        wanted = prod(shape) * int(kind.code[1:])
        fits = isinstance(data, bytes) and len(data) == wanted
    if not fits:
        raise RefusedError(f"it makes an array whose data do not fit its shape {shape}")
    return PlainArray(kind, shape, data)


def _reconstruct(kind: Any, shape: Any, code: Any) -> PlainArray:
    """An array whose content is set later."""
    if kind is not _NDARRAY:
        raise RefusedError("it makes an array of another class than numpy.ndarray")
    return PlainArray(PlainType("u1"), (0,), b"")


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> PlainArray:
    return _array(kind, shape, bytes(data) if isinstance(data, bytearray) else data)


def _scalar(kind: Any, data: Any) -> PlainArray:
    return _array(kind, (), data)


def _bytearray(*arguments: Any) -> bytes:
    match arguments:
        case (bytes() as data,):
            return data
        case (str() as text, "latin-1"):
            return text.encode("latin-1")
    raise RefusedError("it makes a bytearray of something other than bytes")


def _encode_latin1(text: Any, encoding: Any) -> bytes:
    """Python 3 uses this to write bytes in the old protocols."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise RefusedError("it calls _codecs.encode for something other than latin1 text")
    return text.encode("latin1")


def _text(value: Any) -> str:
    """Decode Python 2's text, which is bytes."""
    text = value.decode("ascii") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise RefusedError("it describes an array by something other than text")
    return text


_NDARRAY = object()
_TYPE_CODES = re.compile(r"b1|[ui][1248]|f[248]|O[48]|S[1-9]\d{0,8}", re.ASCII)
"""Numbers, objects, and bytes of fixed length"""
_CORES = ("numpy.core", "numpy._core")
_GLOBALS: dict[str, Callable[..., Any] | object] = {
    "_codecs encode": _encode_latin1,
    "builtins bytearray": _bytearray,
    "__builtin__ bytearray": _bytearray,
    "numpy ndarray": _NDARRAY,
    "numpy dtype": PlainType,
    **{f"{core}.multiarray _reconstruct": _reconstruct for core in _CORES},
    **{f"{core}.multiarray scalar": _scalar for core in _CORES},
    **{f"{core}.numeric _frombuffer": _from_buffer for core in _CORES},
}
_COPYING = (_encode_latin1, _bytearray, _from_buffer)
