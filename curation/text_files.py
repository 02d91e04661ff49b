"""Opening text files that users made: lists, tables, an index.

They come from spreadsheets, from Windows, and from downloads: with byte-order marks, in UTF-16,
with any line ends, with empty lines at the end, or not as text at all.
"""

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from curation.errors import UserError
from curation.file_kinds import BEGINNING_BYTES, kind_of
from curation.files import open_regular

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_LINE = 1 << 24
"""Characters; a list may have all its numbers on one line."""
MOST_LINES = 1 << 28
"""More than the images of any published set of faces; the largest, WebFace260M, has 260 million"""
SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", " ": "blank"}
"""Word separators, in the order in which they are tried"""
_MARK = "\ufeff"
_COMMENT = re.compile(r"\s*#([\s#]|$)")
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def text_lines(path: Path, wanted: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line that is not blank, without its end; reads line by line.

    UTF-8 or, with a byte-order mark, UTF-16. Bytes that are not UTF-8 (file names in another
    encoding) become surrogates. Raises ``UserError`` if ``path`` cannot be opened, is a known
    non-text format instead of ``wanted``, has a zero byte, or exceeds the limits of
    ``bounded_lines``.
    """
    with open_text(path, wanted) as binary:
        file = io.TextIOWrapper(binary, "utf-8", "surrogateescape")
        for number, line in enumerate(bounded_lines(file, path), 1):
            if "\0" in line:
                raise UserError(f"{path}: line {number} holds a zero byte; it is not a text file")
            text = line.removesuffix("\n")
            if text and not text.isspace():
                yield number, text


def bounded_lines(file: TextIO, path: Path, longest: int = MAX_LINE) -> Iterator[str]:
    """The lines of a text file with their ends, without the byte-order marks of joined files.

    Raises ``UserError`` for a line of more than ``longest`` characters, and after ``MOST_LINES``.
    """
    number = 0
    while line := file.readline(longest):
        number += 1
        if len(line) == longest and line[-1] != "\n":
            raise UserError(f"{path}: line {number} has more than {longest} characters")
        if number > MOST_LINES:
            raise UserError(f"{path} has more than {MOST_LINES:,} lines; split it")
        yield line.removeprefix(_MARK)


def split_line(line: str, separator: str) -> list[str]:
    """The words of a line, stripped; a space as separator stands for any number of spaces.

    Words may be quoted, except between spaces. A line that cannot be split has no words.
    """
    if separator == " ":
        return line.split()
    if separator == "\t":
        return [unquoted(word.strip()) for word in line.split("\t")]
    try:
        words = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error:
        return []
    return [word.strip() for word in words]


def unquoted(word: str) -> str:
    """The word without the quotes around it."""
    return word[1:-1] if len(word) > 2 and word[0] == word[-1] == '"' else word


def is_comment(line: str) -> bool:
    """Whether the line is ``#`` and a blank or nothing; a path may begin with ``#``."""
    return _COMMENT.match(line) is not None


def with_slashes(path: str, root: Path) -> str:
    """A path below ``root`` with slashes if it was written on Windows, where some programs mix
    slashes and backslashes. A file whose name has both keeps it.
    """
    is_native = "\\" not in path or ("/" in path and os.path.exists(root / path))  # noqa: PTH110
    return path if is_native else path.replace("\\", "/")


def open_text(path: Path, wanted: str) -> BinaryIO:
    """A text file as UTF-8 without a byte-order mark; see ``text_lines`` for errors."""
    file = open_regular(path)
    beginning = file.read(BEGINNING_BYTES)
    kind = kind_of(beginning)
    if kind is not None and not kind.is_text and kind.name != "empty":
        file.close()
        raise kind.refusal(path, wanted)
    encoding = _utf16(beginning)
    if encoding is not None:
        return io.BufferedReader(_Utf16(file, encoding, path))
    file.seek(len(codecs.BOM_UTF8) if beginning.startswith(codecs.BOM_UTF8) else 0)
    return file


def _utf16(beginning: bytes) -> str | None:
    """The encoding by its byte-order mark, or because every other byte of ASCII text is zero."""
    if beginning[:2] in _UTF16:
        return _UTF16[beginning[:2]]
    even, odd = beginning[0:16:2], beginning[1:16:2]
    if not any(odd) and all(even):
        return "utf-16-le" if odd else None
    return "utf-16-be" if all(odd) and not any(even) else None


def decoded(content: bytes) -> str:
    """A short text as ``text_lines`` reads it; ``ValueError`` where UTF-16 is damaged."""
    encoding = _utf16(content[:16])
    text = content.decode(encoding) if encoding else content.decode("utf-8", "surrogateescape")
    return text.removeprefix(_MARK)


class _Utf16(io.RawIOBase):
    """A UTF-16 file, read as UTF-8 without a byte-order mark."""

    def __init__(self, file: BinaryIO, encoding: str, path: Path) -> None:
        self._file, self._path, self._rest = file, path, b""
        self._decoder = codecs.getincrementaldecoder(encoding)()
        file.seek(0)
        if file.read(2) not in _UTF16:
            file.seek(0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        while not self._rest:
            data = self._file.read(max(2, len(view)))
            try:
                self._rest = self._decoder.decode(data, not data).encode()
            except UnicodeError as error:
                reason = f"is not UTF-16 text: {error}; save it as UTF-8"
                raise UserError(f"{self._path} {reason}") from None
            if not data:
                break
        part, self._rest = self._rest[: len(view)], self._rest[len(view) :]
        view[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._file.close()
        super().close()
