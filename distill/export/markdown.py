"""Markdown from untrusted text: names and licences from specs appear literally."""

import html
import re
from collections.abc import Sequence

from curation.printable import printable

_MARKS = re.compile(r"([\\`*_{}\[\]()#+!|~$:@-])")
_TICKS = re.compile(r"`+")


def plain(text: str) -> str:
    """``text`` as one escaped line without control or bidirectional characters."""
    line = printable(" ".join(text.split()))
    return html.escape(_MARKS.sub(r"\\\1", line), quote=False)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fenced(text: str, language: str) -> str:
    """A code block for text that may contain backticks."""
    longest = max((len(found) for found in _TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
