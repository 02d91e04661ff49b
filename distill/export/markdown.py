"""Markdown of texts that others wrote: names and licences from specs show as they are."""

import html
import re
from collections.abc import Sequence

from curation.printable import printable

_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|~$:@-])")
_TICKS = re.compile(r"`+")


def plain(text: str) -> str:
    """``text`` as one line that Markdown takes for nothing else, in its own order."""
    line = printable(" ".join(text.split()))
    return html.escape(_MARKS.sub(r"\\\1", line), quote=False)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fenced(text: str, language: str) -> str:
    """A block of code, whatever backticks it has."""
    longest = max((len(found) for found in _TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
