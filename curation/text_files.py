"""Opening text files that users made: lists, tables, an index.

They come from spreadsheets, from Windows, and from downloads: with byte-order marks, in UTF-16,
with any line ends, with empty lines at the end, or not as text at all.
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
"""Characters; a list may have all its numbers on one line."""
SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", " ": "blank"}
"""Word separators, in the order in which they are tried"""
_MAX_UTF16 = 1 << 28
_MARK = "\ufeff"
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def text_lines(path: Path, wanted: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line that is not blank, without its end; reads line by line.

    UTF-8 or, with a byte-order mark, UTF-16. Bytes that are not UTF-8 (file names in another
    encoding) become surrogates. Raises ``UserError`` if ``path`` cannot be opened, is a known
    non-text format instead of ``wanted``, or has a zero byte or a line of more than ``MAX_LINE``
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
            text = line.removesuffix("\n").removeprefix(_MARK)  # also after concatenating files
            if text and not text.isspace():
                yield number, text


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


def open_text(path: Path, wanted: str) -> BinaryIO:
    """A text file as UTF-8 without a byte-order mark; see ``text_lines`` for errors.

    A UTF-16 file is read into memory completely.
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
