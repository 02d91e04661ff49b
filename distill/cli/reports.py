"""Prints results as lines, a table, or JSON."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from curation.printable import printable
from distill.cli.common import print_json
from distill.cli.screen import (
    INDENT,
    can_show,
    in_colour,
    say,
    screen_width,
    size_of,
    wrap,
    write,
)
from distill.cli.tables import pair_lines, table_lines

DIM = "\x1b[2m"
COLOURS = {
    "done": "\x1b[32m",
    "reused": "\x1b[32m",
    "running": "\x1b[33m",
    "failed": "\x1b[31m",
    "skipped": DIM,
}
"""Colours of job and step states in a terminal"""


def print_report(description: dict[str, Any], as_json: bool) -> None:
    """Print one name and value per line, or JSON."""
    if as_json:
        print_json(description)
        return
    pairs = [(printable(name), printable(value)) for name, value in _pairs(description)]
    size, width = max(size_of(name) for name, _ in pairs), screen_width()
    lines = [line for name, value in pairs for line in pair_lines(name, value, size, width)]
    write(sys.stdout, "\n".join(lines))


def _pairs(description: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values; a nested name is prefixed with the outer one."""
    pairs: list[tuple[str, str]] = []
    for key, value in description.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            pairs += _pairs(value, f"{name}, ")
        elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
            for number, entry in enumerate(value, 1):
                pairs += _pairs(entry, f"{name} {number}, ")
        else:
            pairs.append((name, shown(value)))
    return pairs


def shown(value: Any) -> str:
    """A value formatted for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def print_table(
    names: Sequence[str],
    rows: Sequence[Sequence[object]],
    numbers: Sequence[str] = (),
    colours: Mapping[str, str] = COLOURS,
    title: str = "",
) -> None:
    """Print a table as wide as the screen; the columns in ``numbers`` are right-aligned.

    ``colours`` maps the whole text of a cell to its colour in a terminal.
    """
    rule = "─" if can_show("─") else "-"
    shades = colours if in_colour(sys.stdout) else {}
    if title:
        say(title)
    lines = table_lines(names, rows, screen_width(), numbers, shades, rule)
    write(sys.stdout, "\n".join(lines))


def print_below(caption: str) -> None:
    """Print a note below a table, as wide as the screen."""
    lines = [row for line in caption.splitlines() for row in wrap(line, screen_width(), INDENT)]
    write(sys.stdout, "\n".join(["", *lines]))
