"""A chart of differences and their intervals, one row each, relative to a line at 0. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from distill.charts.chart import Axis, Drawing, Lettering, Line, Mark

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW, _BOTTOM = 560, 230, 18, 56, 24, 46
_WORSE, _BETTER = 1, 2
"""Colours of significant differences"""


@dataclass(frozen=True)
class DrawnDifference:
    """A measure's difference from the first network, and its interval."""

    name: str
    value: float
    low: float
    high: float


def draw_differences(title: str, hint: str, rows: Sequence[DrawnDifference]) -> Drawing:
    """A point and a bar for each row; grey if the interval includes 0."""
    height = _TOP + _ROW * len(rows) + _BOTTOM
    ends = [0.0, *(end for each in rows for end in (each.low, each.high, each.value))]
    margin = 0.05 * max(max(ends) - min(ends), 1e-4)
    axis = Axis("difference", min(ends) - margin, max(ends) + margin)
    marks = [*_frame(axis, height), *_rows(axis, rows)]
    marks += [Lettering(8, 18, title), Lettering(8, 36, hint)]
    return Drawing(title, _WIDTH, height, marks)


def _frame(axis: Axis, height: int) -> Iterator[Mark]:
    bottom = height - _BOTTOM
    for value, text in axis.ticks():
        x = _across(axis, value)
        yield Line(np.array([[x, _TOP - 8], [x, bottom]]), "grid")
        yield Lettering(x, bottom + 16, text, "middle")
    zero = _across(axis, 0.0)
    yield Line(np.array([[zero, _TOP - 8], [zero, bottom]]), "axis")
    yield Lettering(_WIDTH - _RIGHT, bottom + 34, axis.title, "end")


def _rows(axis: Axis, rows: Sequence[DrawnDifference]) -> Iterator[Mark]:
    for number, each in enumerate(rows):
        y = _TOP + _ROW * number + _ROW / 2
        is_noise = each.low <= 0 <= each.high
        colour = None if is_noise else _BETTER if each.low > 0 else _WORSE
        x = _across(axis, each.value)
        yield Lettering(8, y + 4, each.name)
        ends = [[_across(axis, end), y] for end in (each.low, each.high)]
        yield Line(np.array(ends), "whisker", colour)
        yield Line(np.array([[x, y - 5], [x, y + 5]]), "curve", colour)


def _across(axis: Axis, value: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * float(axis.places(value))
