"""Tables as lines of text. No cell is truncated, and no word is broken.

If the columns fit side by side, texts are wrapped at words. If not, the first cell of each row gets
its own line above the others. If that does not fit either, each row is a block with one line per
cell.
"""

from collections.abc import Mapping, Sequence

from curation.printable import printable
from distill.cli.screen import INDENT, size_of, words_of, wrap

GAP = "  "
NARROWEST = 20
"""Minimum width to which a text is wrapped, for readability"""
RESET = "\x1b[0m"

TableRow = list[str]


def table_lines(
    names: Sequence[str],
    rows: Sequence[Sequence[object]],
    width: int,
    numbers: Sequence[str] = (),
    colours: Mapping[str, str] | None = None,
    rule: str = "-",
) -> list[str]:
    """A table of at most ``width`` columns, if its longest words allow.

    ``numbers`` names the right-aligned columns. ``colours`` maps the whole text of a cell to an
    ANSI sequence. ``rule`` is drawn below the column names.
    """
    head = [printable(name) for name in names]
    cells = [[printable(cell) for cell in row] for row in rows]
    right = [name in numbers for name in names]
    colours = colours or {}
    if sizes := _sizes([head, *cells], width):
        lines = _row_lines(head, sizes, right, {})
        lines.append(GAP.join(rule * size for size in sizes))
        return lines + [line for row in cells for line in _row_lines(row, sizes, right, colours)]
    if sizes := _sizes([head[1:], *(row[1:] for row in cells)], width - len(INDENT)):
        lines = [head[0], *_indented(_row_lines(head[1:], sizes, right[1:], {}))]
        lines += _indented([GAP.join(rule * size for size in sizes)])
        for first, *others in cells:
            lines += wrap(first, width, INDENT) if first else []
            lines += _indented(_row_lines(others, sizes, right[1:], colours))
        return lines
    return [line for row in cells for line in _block(head, row, width, colours)]


def pair_lines(name: str, value: str, size: int, width: int) -> list[str]:
    """A name padded to ``size`` with its wrapped value next to it, or below it if too wide."""
    space = " " * (size + len(GAP))
    if max(map(size_of, words_of(value)), default=0) > width - len(space):
        return [name, *_indented(wrap(value, width - len(INDENT)))]
    first, *others = wrap(value, width - len(space))
    return [f"{_padded(name, size, False)}{GAP}{first}", *(space + other for other in others)]


def _sizes(rows: list[TableRow], width: int) -> list[int]:
    """The widths of the columns; empty if they do not fit."""
    columns = list(zip(*rows, strict=True))
    whole = [max(map(size_of, column)) for column in columns]
    sizes = [
        min(size, max([NARROWEST, *(size_of(word) for cell in column for word in words_of(cell))]))
        for size, column in zip(whole, columns, strict=True)
    ]
    room = width - len(GAP) * (len(columns) - 1) - sum(sizes)
    if room < 0:
        return []
    # Columns that need the least extra width get it first; the others share the rest.
    places = sorted(range(len(columns)), key=lambda place: whole[place] - sizes[place])
    for done, place in enumerate(places):
        more = min(whole[place] - sizes[place], room // (len(places) - done))
        sizes[place] += more
        room -= more
    return sizes


def _row_lines(
    row: TableRow, sizes: list[int], right: list[bool], colours: Mapping[str, str]
) -> list[str]:
    wrapped = [wrap(cell, size) for cell, size in zip(row, sizes, strict=True)]
    height = max(map(len, wrapped))
    columns = [
        [
            _coloured(_padded(piece, size, at_right), colours.get(cell))
            for piece in [*pieces, *[""] * (height - len(pieces))]
        ]
        for cell, pieces, size, at_right in zip(row, wrapped, sizes, right, strict=True)
    ]
    return [GAP.join(pieces).rstrip() for pieces in zip(*columns, strict=True)]


def _block(names: TableRow, row: TableRow, width: int, colours: Mapping[str, str]) -> list[str]:
    size = max(map(size_of, names[1:]), default=0)
    lines = wrap(row[0], width, INDENT) if row[0] else []
    for name, cell in zip(names[1:], row[1:], strict=True):
        if cell:
            pair = pair_lines(name, cell, size, width - len(INDENT))
            shade = colours.get(cell)
            lines += [
                INDENT + (line.replace(cell, _coloured(cell, shade)) if shade else line)
                for line in pair
            ]
    return lines


def _indented(lines: list[str]) -> list[str]:
    return [INDENT + line for line in lines]


def _padded(text: str, size: int, at_right: bool) -> str:
    fill = " " * (size - size_of(text))
    return fill + text if at_right else text + fill


def _coloured(piece: str, colour: str | None) -> str:
    return piece if colour is None else f"{colour}{piece}{RESET}"
