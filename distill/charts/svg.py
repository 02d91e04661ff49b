"""Drawings as SVG: inside a page with `STYLE`, or as a separate file."""

from html import escape

import numpy as np

from curation.printable import printable
from distill.charts.chart import CURVES, Area, Drawing, Line, Mark
from distill.charts.palette import variables

STYLE = "\n".join(
    [
        ".drawing { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }",
        ".drawing text { fill: var(--muted); }",
        ".drawing polyline { fill: none; stroke-linejoin: round; }",
        ".drawing .grid { stroke: var(--line); }",
        ".drawing .axis { stroke: var(--muted); }",
        ".drawing .edge { stroke: var(--ink); stroke-dasharray: 2 3; }",
        ".drawing .curve { stroke: var(--muted); stroke-width: 2; }",
        ".drawing .whisker { stroke: var(--muted); stroke-width: 3; stroke-opacity: 0.5; "
        "stroke-linecap: round; }",
        ".drawing polygon { fill-opacity: 0.3; }",
        *(
            f".drawing .c{n} {{ stroke: var(--curve-{n}); }} "
            f".drawing polygon.c{n} {{ fill: var(--curve-{n}); stroke: none; }}"
            for n in range(1, CURVES + 1)
        ),
    ]
)
"""Rules for a page that has the style sheet's colours"""


def svg(drawing: Drawing) -> str:
    """The element for a page; untrusted text is escaped."""
    title = _text(drawing.title)
    marks = "".join(map(_mark, drawing.marks))
    return (
        f'<svg class="drawing" viewBox="0 0 {drawing.width} {drawing.height}" '
        f'xmlns="http://www.w3.org/2000/svg" role="img"><title>{title}</title>{marks}</svg>'
    )


def svg_file(drawing: Drawing) -> str:
    """A standalone file in the colours of the system's theme."""
    style = f":root {{ color-scheme: light dark; {variables()} }}\n{STYLE}\n"
    style += ".paper { fill: var(--card); }"
    paper = f'<rect class="paper" width="{drawing.width}" height="{drawing.height}"/>'
    head, rest = svg(drawing).split("</title>", 1)
    size = f'<svg width="{drawing.width}" height="{drawing.height}" '
    return f"{head.replace('<svg ', size, 1)}</title><style>{style}</style>{paper}{rest}\n"


def _mark(mark: Mark) -> str:
    if isinstance(mark, Line):
        colour = "" if mark.colour is None else f" c{mark.colour + 1}"
        # Dashes as attributes, because a page's content security policy may forbid inline styles.
        dash = f' stroke-dasharray="{6 * mark.dash} 4"' if mark.dash else ""
        points = _points(mark.points)
        return f'<polyline class="{mark.look}{colour}"{dash} points="{points}"/>'
    if isinstance(mark, Area):
        return f'<polygon class="c{mark.colour + 1}" points="{_points(mark.points)}"/>'
    return (
        f'<text x="{mark.x:.1f}" y="{mark.y:.1f}" text-anchor="{mark.anchor}">'
        f"{_text(mark.text)}</text>"
    )


def _points(points: np.ndarray) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _text(text: str) -> str:
    return escape(printable(text))
