"""Shows a log: its end, or the lines that contain a text."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from curation.printable import printable
from distill.run_directory import read_log

TAIL_BYTES = 1 << 15
MOST_FOUND = 200
MOST_LINES = 1000
MOST_SEARCHED = 64 << 20
"""Bytes at the end of the log that are searched"""
_PIECE = 1 << 20
_LONGEST_LINE = 2000


@dataclass(frozen=True)
class LogLine:
    """The visible text of a line, and the byte at which it begins in the log."""

    at: int
    text: str


@dataclass(frozen=True)
class FoundLines:
    """The last matching lines of a log, and whether there are earlier ones."""

    lines: list[LogLine]
    more: bool
    problem: str | None = None
    """Why the log cannot be read"""


def tail(path: Path) -> FoundLines:
    """The last lines of the log."""
    text, end = read_log(path, -TAIL_BYTES, TAIL_BYTES)
    begins = end - len(text)
    lines = list(_placed(text.removesuffix(b"\n").split(b"\n"), begins)) if text else []
    if begins and len(lines) > 1:
        del lines[0]  # it is cut off
    more = begins > 0 or len(lines) > MOST_LINES
    return FoundLines([LogLine(at, _shown(line)) for at, line in lines[-MOST_LINES:]], more)


def search(path: Path, words: str) -> FoundLines:
    """The last lines that contain ``words``, ignoring case."""
    wanted, found, more = words.casefold(), [], False
    for at, line in _lines(path):
        shown = _shown(line)
        if wanted in shown.casefold():
            found.append(LogLine(at, shown))
            more = more or len(found) > MOST_FOUND
            del found[:-MOST_FOUND]
    return FoundLines(found, more)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    offset, rest = -MOST_SEARCHED, b""
    while True:
        piece, offset = read_log(path, offset, _PIECE)
        if not piece:
            break
        text = rest + piece
        *lines, rest = text.split(b"\n")
        yield from _placed(lines, offset - len(text))
        rest = rest[-_PIECE:]
    if rest:
        yield offset - len(rest), rest


def _placed(lines: list[bytes], at: int) -> Iterator[tuple[int, bytes]]:
    """The lines with their places, of which the first begins at ``at``."""
    for line in lines:
        yield at, line
        at += len(line) + 1


def _shown(line: bytes) -> str:
    """The visible text of a line; of a progress bar, its last state."""
    last = line[-_LONGEST_LINE:].rstrip(b"\r").rpartition(b"\r")[2]
    return printable(last.decode(errors="replace").replace("\t", "    "))
