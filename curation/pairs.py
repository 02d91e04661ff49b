"""Verification sets: pairs of face images, each the same person or not.

insightface's ``.bin`` is a pickle of (2P image files, P booleans), written by Python 2 or 3. A
pickle is a program, and these files come from the web, so nothing of it is believed: the opcodes
are checked against a short list before anything runs, no global is known but ``_codecs.encode`` (by
which Python 3 writes bytes in the old protocols), and the result is checked for shape and type.
"""

import hashlib
import io
import pickle
import pickletools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from curation.errors import UserError
from curation.files import atomic_file
from curation.images import MAX_PIXELS, probe_size

MAX_FILE_BYTES = 1 << 30
"""The largest published set (CFP-FP, 7,000 pairs) has 70 MB."""

# What lists, tuples, bytes, booleans and a memo need, in all protocols, and no more. No opcode that
# makes an object of a class, and none of those by which a short file asks for much memory.
_OPCODES = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "GLOBAL", "STACK_GLOBAL", "REDUCE"),
        *("LIST", "EMPTY_LIST", "APPEND", "APPENDS"),
        *("TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2"),
        *("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    )
)
_MEMO_WRITES = frozenset(["PUT", "BINPUT", "LONG_BINPUT"])


@dataclass(frozen=True)
class VerificationPairs:
    """P pairs: ``images[2 * i]`` and ``images[2 * i + 1]``, and whether they are the same person.

    ``images`` are image files of one size; ``same`` is bool ``[P]``; ``digest`` is the SHA-256 of
    the ``.bin`` file, to be printed with every score; ``name`` is the file's, without ``.bin``.
    """

    images: list[bytes] = field(repr=False)
    same: np.ndarray = field(repr=False)
    digest: str
    name: str

    def __len__(self) -> int:
        return len(self.same)


def read_pairs(path: Path) -> VerificationPairs:
    """Read a verification set; nothing that the file says is executed.

    Raises ``UserError`` where the file is missing, too large, no pickle of a set, or asks for
    anything beyond lists of bytes and booleans.
    """
    path = Path(path)
    data = _read_file(path)
    try:
        _check_opcodes(data)
        content = _PlainUnpickler(io.BytesIO(data), encoding="bytes").load()
    except _RefusedError as error:
        raise UserError(f"{path} is refused as a verification set: {error}") from None
    except Exception as error:  # a wrong pickle can raise nearly anything
        reason = str(error) or type(error).__name__
        raise UserError(f"{path} is no verification set: {reason}") from None
    images, same = _check_content(content, path)
    return VerificationPairs(images, same, hashlib.sha256(data).hexdigest(), path.stem)


def write_pairs(path: Path, images: Sequence[bytes], same: Sequence[bool]) -> None:
    """Write 2P image files and P booleans as insightface's ``.bin`` (pickle protocol 4)."""
    if len(images) != 2 * len(same):
        raise ValueError(f"{len(images)} images are not two for each of {len(same)} pairs")
    content = [bytes(image) for image in images], [bool(value) for value in same]
    with atomic_file(Path(path)) as file:
        pickle.dump(content, file, protocol=4)


class _RefusedError(Exception):
    """The pickle asks for something that no verification set needs."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        raise _RefusedError(f"it names {module}.{name}, which could run code")

    def persistent_load(self, identifier: Any) -> NoReturn:
        raise _RefusedError("it points to something outside the file")


def _encode_latin1(text: Any, encoding: Any) -> bytes:
    # An object of ours instead of the real function: it does one thing, for one codec.
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise _RefusedError("it calls _codecs.encode for something other than latin1 text")
    return text.encode("latin1")


def _read_file(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(
            f"{path} is a directory or does not exist; a verification set is a .bin file"
        )
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise UserError(f"{path} has {size} bytes; verification sets have at most {MAX_FILE_BYTES}")
    return path.read_bytes()


def _check_opcodes(data: bytes) -> None:
    """Refuse opcodes beyond the list, and a memo that is larger than the number of opcodes."""
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name not in _OPCODES:
            raise _RefusedError(
                f"it uses the pickle opcode {opcode.name}, which a set does not need"
            )
        if opcode.name == "GLOBAL" and argument != "_codecs encode":
            raise _RefusedError(f"it names {argument!r}, which could run code")
        # The unpickler allots the memo up to the largest index at once.
        if opcode.name in _MEMO_WRITES and isinstance(argument, int) and argument > number:
            raise _RefusedError(f"it asks for a memo of {argument} entries")


def _check_content(content: Any, path: Path) -> tuple[list[bytes], np.ndarray]:
    if not (isinstance(content, (tuple, list)) and len(content) == 2):
        raise UserError(f"{path} is no verification set: it is not (images, same)")
    images, same = content
    if not (isinstance(images, (tuple, list)) and isinstance(same, (tuple, list))):
        raise UserError(f"{path} is no verification set: images and same must be lists")
    if not same or len(images) != 2 * len(same):
        raise UserError(
            f"{path} is no verification set: {len(images)} images are not two for each of "
            f"{len(same)} pairs"
        )
    if not all(isinstance(value, int) and value in (0, 1) for value in same):
        raise UserError(f"{path} is no verification set: same must be booleans")
    _check_images(images, path)
    return list(images), np.array(same, dtype=bool)


def _check_images(images: Sequence[Any], path: Path) -> None:
    first = None
    for number, image in enumerate(images):
        what = f"{path}: image {number}"
        if not isinstance(image, bytes):
            raise UserError(f"{what} is a {type(image).__name__}; image files (bytes) are wanted")
        size = probe_size(image, what)
        first = first or size
        if size != first or size[0] * size[1] > MAX_PIXELS:
            raise UserError(
                f"{what} has {size[0]}x{size[1]} pixels, the first {first[0]}x{first[1]}"
            )
