"""Reads the tables of published protocols in blocks, and checks every line."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.text_files import open_text, split_line, text_lines

MOST_LINES = 20_000_000
"""Lines of one table; the comparisons of IJB-C are 15.7 million"""
MOST_IMAGES = 5_000_000
"""Lines of one list of images; that of MegaFace has a million"""
_BLOCK = 1 << 22
_LONGEST_PART, _LONGEST_PATH = 255, 2048
_INTEGER = re.compile(r"-?\d{1,9}", re.ASCII)


def whole_numbers(path: Path, columns: int, wanted: str) -> np.ndarray:
    """Read a table of integers separated by blanks or tabs, without a header: int64 [R, columns].

    Fifteen million lines take seconds. Raises `UserError` with the first invalid line, or if the
    table is empty.
    """
    line = rb"(?:" + rb"[ \t]+".join([rb"-?\d{1,9}"] * columns) + rb"[ \t]*)?"
    form = re.compile(rb"(?:[ \t]*" + line + rb"[\r\n])*")
    parts, before = [np.empty(0, np.int64)], 0
    for block in _blocks(path, wanted):
        if form.fullmatch(block) is None:
            raise _wrong_line(path, block, before, re.compile(line), wanted)
        if text := block.decode("ascii").strip():
            parts.append(np.fromstring(text, np.int64, sep=" "))
        before += block.count(b"\n") or block.count(b"\r")
        if before > MOST_LINES:
            raise UserError(f"{path} has more than {MOST_LINES:,} lines; {wanted} has fewer")
    found = np.concatenate(parts).reshape(-1, columns)
    if not len(found):
        raise UserError(f"{path} is empty; expected lines: {wanted}")
    return found


def _blocks(path: Path, wanted: str) -> Iterator[bytes]:
    """Blocks of complete lines; adds a newline to the last one."""
    with open_text(path, wanted) as file:
        rest = b""
        while block := file.read(_BLOCK):
            block = rest + block
            end = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1
            if not end and len(block) > _BLOCK:
                raise UserError(f"{path}: a line has more than {_BLOCK} bytes; expected: {wanted}")
            rest = block[end:]
            yield block[:end]
        yield rest + b"\n"


def _wrong_line(
    path: Path, block: bytes, before: int, line: re.Pattern[bytes], wanted: str
) -> UserError:
    for number, each in enumerate(block.splitlines(), before + 1):
        if line.fullmatch(each.lstrip(b" \t")) is None:
            shown = each[:60].decode("utf-8", "replace")
            return UserError(f"{path}: line {number}: {shown!r}; expected: {wanted}")
    return UserError(f"{path}: its lines are not: {wanted}")


def listed_lines(path: Path, wanted: str) -> Iterator[tuple[int, str]]:
    """``text_lines`` of a list of images; ``UserError`` after ``MOST_IMAGES`` lines."""
    for count, line in enumerate(text_lines(path, wanted)):
        if count == MOST_IMAGES:
            raise UserError(f"{path} has more than {MOST_IMAGES:,} lines; expected: {wanted}")
        yield line


def rows(path: Path, columns: int, wanted: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, words) of a table separated by blanks, without a header."""
    for number, line in listed_lines(path, wanted):
        words = line.split()
        if len(words) != columns:
            raise UserError(
                f"{path}: line {number} has {len(words)} columns, not {columns}; expected: {wanted}"
            )
        yield number, words


def first_two_columns(path: Path, wanted: str) -> Iterator[tuple[int, int, int]]:
    """(line number, first, second) of a table separated by commas; skips a header row.

    Ignores all columns after the second.
    """
    for place, (number, line) in enumerate(listed_lines(path, wanted)):
        words = split_line(line, ",")[:2]
        if len(words) == 2 and all(map(_INTEGER.fullmatch, words)):
            yield number, int(words[0]), int(words[1])
        elif place:
            raise UserError(f"{path}: line {number}: {line[:60]!r}; expected: {wanted}")


def integer(word: str, where: str, what: str) -> int:
    if _INTEGER.fullmatch(word) is None:
        raise UserError(f"{where}: {word[:40]!r} is not a {what}, a whole number")
    return int(word)


def is_inside(name: str) -> bool:
    """Whether a name from a list is a valid path that stays below its folder."""
    parts = name.split("/")
    lengths = [len(part.encode(errors="surrogateescape")) for part in parts]
    can_be = max(lengths) <= _LONGEST_PART and sum(lengths) <= _LONGEST_PATH and "\0" not in name
    return can_be and not name.startswith("/") and ".." not in parts
