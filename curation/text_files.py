"""Text files that people made: lists, tables, an index. Every one of them is opened here.

They come from spreadsheets, from Windows, and from downloads: with byte-order marks, in UTF-16,
with any line ends, with empty lines at the end, or as something that is not a text at all.
"""

import codecs
import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from curation.errors import UserError
from curation.file_kinds import BEGINNING_BYTES, kind_of
from curation.files import open_regular

MAX_LINE = 1 << 24
"""Characters: a list may have all its numbers in one line."""
SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", " ": "blank"}
"""What stands between words, in the order in which it is tried"""
_MAX_UTF16 = 1 << 28
_MARK = "\ufeff"
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def text_lines(path: Path, wanted: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line that is not blank, without its end; one is in memory.

    UTF-8 or, with a byte-order mark, UTF-16. Bytes that are no UTF-8 (names of files in another
    encoding) are kept as surrogates. Raises ``UserError`` where ``path`` cannot be opened, is known
    to be no text and so not ``wanted``, has a zero byte, or a line of more than ``MAX_LINE``
    characters.
    """
    with open_text(path, wanted) as binary:
        file = io.TextIOWrapper(binary, "utf-8", "surrogateescape")
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE and line[-1] != "\n":
                raise UserError(f"{path}: line {number} has more than {MAX_LINE} characters")
            if "\0" in line:
                raise UserError(f"{path}: line {number} holds a zero byte; it is not a text")
            text = line.removesuffix("\n").removeprefix(_MARK)  # marks too of files joined by hand
            if text and not text.isspace():
                yield number, text


def split_line(line: str, separator: str) -> list[str]:
    """The words of a line, without blanks around them; a blank stands for any number of them.

    With commas and semicolons they may stand in quotes. A line that cannot be split has no words.
    """
    if separator == " ":
        return line.split()
    if separator == "\t":
        return [word.strip() for word in line.split("\t")]
    try:
        words = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error:
        return []
    return [word.strip() for word in words]


def open_text(path: Path, wanted: str) -> BinaryIO:
    """A text file as UTF-8 without a byte-order mark; see ``text_lines`` for what is refused.

    One in UTF-16 is in memory as a whole.
    """
    file = open_regular(path)
    beginning = file.read(BEGINNING_BYTES)
    kind = kind_of(beginning)
    if kind is not None and not kind.is_text and kind.name != "empty":
        file.close()
        raise kind.refusal(path, wanted)
    encoding = _utf16(beginning)
    if encoding is not None:
        return _from_utf16(file, encoding, path)
    file.seek(len(codecs.BOM_UTF8) if beginning.startswith(codecs.BOM_UTF8) else 0)
    return file


def _utf16(beginning: bytes) -> str | None:
    """The encoding by its byte-order mark, or by every other byte of ASCII being zero."""
    if beginning[:2] in _UTF16:
        return _UTF16[beginning[:2]]
    even, odd = beginning[0:16:2], beginning[1:16:2]
    if not any(odd) and all(even):
        return "utf-16-le" if odd else None
    return "utf-16-be" if all(odd) and not any(even) else None


def _from_utf16(file: BinaryIO, encoding: str, path: Path) -> BinaryIO:
    with file:
        if os.fstat(file.fileno()).st_size > _MAX_UTF16:
            raise UserError(
                f"{path} has more than {_MAX_UTF16:,} bytes in UTF-16; save it as UTF-8"
            )
        file.seek(0)
        try:
            text = file.read().decode(encoding).removeprefix(_MARK)
            return io.BytesIO(text.encode("utf-8", "surrogateescape"))
        except UnicodeError as error:
            raise UserError(f"{path} is not UTF-16 text: {error}; save it as UTF-8") from None
