"""The only module through which commands print for people.

Text from files, names, logs and records may contain anything. It is made printable here, and never
interpreted as markup.
"""

import os
import re
import sys
import traceback
from types import TracebackType
from typing import TextIO

from curation.printable import printable

USUAL_WIDTH, LEAST_WIDTH = 80, 20
"""The default width without COLUMNS or a terminal, and the minimum"""
INDENT = "  "

_WORD = re.compile(r"`[^`]*`\S*|\S+")
"""A command in backticks is one word, so that it can be copied"""
_LINE_BREAK = re.compile(r"\n(?=  )")
"""Continuation lines are indented, so that no name in a message can imitate a line of ours"""
_COLOUR = re.compile(rb"\x1b\[[\d;]*m")


def printable_log(line: bytes) -> str:
    """A line of a program's output without its colour codes."""
    plain = _COLOUR.sub(b"", line).decode(errors="replace").rstrip("\r\n")
    states = plain.split("\r")  # a redrawn progress bar
    return "\n".join("\t".join(map(printable, state.split("\t"))) for state in states)


def say(text: object) -> None:
    """Print a message on stdout; its continuation lines are indented by two spaces or more."""
    write(sys.stdout, _laid_out(str(text), sys.stdout))


def note(text: object) -> None:
    """Print a note on stderr, separate from machine-readable output."""
    write(sys.stderr, _laid_out(str(text), sys.stderr))


def print_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print as Python does, without control characters in the error's text."""
    lines = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n").split("\n")
    write(sys.stderr, "\n".join(map(printable, lines)))


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of at most ``width`` columns, continuation lines indented; words are not broken."""
    lines: list[str] = []
    for word in words_of(text):
        if lines and size_of(lines[-1]) + 1 + size_of(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append((indent if lines else "") + word)
    return lines or [""]


def words_of(text: str) -> list[str]:
    """The units that wrapping keeps whole."""
    return _WORD.findall(text)


def size_of(text: str) -> int:
    """The width of ``text`` in terminal columns."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def screen_width(stream: TextIO | None = None) -> int:
    """The layout width, such as that of a table: COLUMNS, else the terminal's, else 80."""
    stream = stream or sys.stdout
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit():
        return max(LEAST_WIDTH, int(columns[:6]))
    if not stream.isatty():
        return USUAL_WIDTH
    # A terminal that does not know its size reports 0.
    return max(LEAST_WIDTH, os.get_terminal_size(stream.fileno()).columns or USUAL_WIDTH)


def can_show(text: str, stream: TextIO | None = None) -> bool:
    """Whether the encoding of ``stream`` (default: stdout) has all of these characters."""
    try:
        text.encode((stream or sys.stdout).encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def can_redraw(stream: TextIO) -> bool:
    """Whether the stream is a terminal that understands cursor movements and colours."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def in_colour(stream: TextIO) -> bool:
    """Whether to use colours: in a terminal, unless NO_COLOR is set (no-color.org)."""
    return can_redraw(stream) and not os.environ.get("NO_COLOR")


def write(stream: TextIO, text: str) -> None:
    """Write text that is already printable and laid out."""
    stream.write(f"{text}\n")
    stream.flush()


def _laid_out(message: str, stream: TextIO) -> str:
    """Wrapped for a terminal only, because logs are searched line by line."""
    lines = [printable(line) for line in _LINE_BREAK.split(message)]
    if not stream.isatty():
        return "\n".join(lines)
    width = screen_width(stream)
    return "\n".join(row for line in lines for row in _wrap_line(line, width))


def _wrap_line(line: str, width: int) -> list[str]:
    words = line.lstrip(" ")
    indent = line[: len(line) - len(words)]
    return [indent + row for row in wrap(words, width - len(indent), INDENT)]
