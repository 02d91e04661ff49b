"""A chart as lines, areas and texts on a plane: pure, for both SVG and PNG."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

CURVES = 8
"""Number of colours; further curves reuse them with longer dashes."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 26, 42
_LEGEND_LINE = 18
_TICKS = 5

Look = Literal["grid", "axis", "edge", "curve", "whisker"]
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Axis:
    """One direction of a chart, from ``low`` to ``high``; both are positive if logarithmic."""

    title: str
    low: float
    high: float
    is_log: bool = False

    def places(self, values: np.ndarray | float) -> np.ndarray:
        """Positions of values, from 0 at the low end to 1 at the high end; clamped."""
        low, high = float(self.low), float(self.high)
        found = np.asarray(values, np.float64)
        if self.is_log:
            found = np.log10(np.maximum(found, low))
            low, high = math.log10(low), math.log10(high)
        return np.clip((found - low) / (high - low), 0, 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Values to mark and their labels: powers of ten, or round numbers."""
        if self.is_log:
            first, last = math.ceil(_log(self.low)), math.floor(_log(self.high))
            every = -(-(last - first + 1) // (2 * _TICKS))
            return [(10.0**n, "1" if n == 0 else f"1e{n}") for n in range(last, first - 1, -every)]
        step = _round_step((self.high - self.low) / _TICKS)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(n * step, f"{n * step:.{decimals}f}") for n in range(first, last + 1)]


@dataclass(frozen=True)
class Series:
    """A curve through ``x`` and ``y`` [K]; ``colour`` counts from 0.

    ``whiskers`` are intervals, (x, lowest, highest) each.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: int
    is_filled: bool = False
    whiskers: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes, and vertical ``edges`` at values of ``x``."""

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    edges: Sequence[float] = ()
    width: int = 440
    height: int = 320


@dataclass(frozen=True)
class Line:
    """A polyline through points [K, 2]; ``colour`` None is the default. ``dash`` 0 is solid."""

    points: np.ndarray
    look: Look
    colour: int | None = None
    dash: int = 0


@dataclass(frozen=True)
class Area:
    """A closed outline [K, 2], filled."""

    points: np.ndarray
    colour: int


@dataclass(frozen=True)
class Lettering:
    """A line of text with its baseline at ``y``."""

    x: float
    y: float
    text: str
    anchor: Anchor = "start"


Mark = Line | Area | Lettering


@dataclass(frozen=True)
class Drawing:
    """All marks of a drawing, from the upper left corner, and a textual description."""

    title: str
    width: int
    height: int
    marks: Sequence[Mark]


def draw(chart: Chart, legend: bool = True) -> Drawing:
    """The marks of a chart; ``legend`` adds its title and the names of its curves."""
    names = [each for each in chart.series if each.name] if legend else []
    head = _LEGEND_LINE if legend else 0
    height = chart.height + head + _LEGEND_LINE * len(names)
    box = (_LEFT, _TOP + head, chart.width - _RIGHT, chart.height + head - _BOTTOM)
    marks = [*_frame(chart, box), *_curves(chart, box)]
    if legend:
        marks.append(Lettering(4, 16, chart.title))
    for line, each in enumerate(names):
        y = chart.height + head + _LEGEND_LINE * line + 4
        marks += [_swatch(each.colour, y), Lettering(_LEFT, y + 4, each.name)]
    return Drawing(chart.title, chart.width, height, marks)


def _swatch(colour: int, y: float) -> Line:
    points = np.array([[8.0, y], [_LEFT - 8.0, y]])
    return Line(points, "curve", colour % CURVES, colour // CURVES)


def _frame(chart: Chart, box: tuple[int, int, int, int]) -> Iterator[Mark]:
    left, top, right, bottom = box
    for value, text in chart.y.ticks():
        y = bottom - (bottom - top) * float(chart.y.places(value))
        yield Line(np.array([[left, y], [right, y]]), "grid")
        yield Lettering(left - 6, y + 4, text, "end")
    for value, text in chart.x.ticks():
        x = left + (right - left) * float(chart.x.places(value))
        yield Line(np.array([[x, top], [x, bottom]]), "grid")
        yield Lettering(x, bottom + 16, text, "middle")
    yield Line(np.array([[left, top], [left, bottom], [right, bottom]]), "axis")
    yield Lettering(4, top - 10, chart.y.title)
    yield Lettering(right, bottom + 34, chart.x.title, "end")


def _curves(chart: Chart, box: tuple[int, int, int, int]) -> Iterator[Mark]:
    left, top, right, bottom = box

    def points(x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        across = left + (right - left) * chart.x.places(x)
        down = bottom - (bottom - top) * chart.y.places(y)
        return np.stack(np.broadcast_arrays(across, down), axis=-1).reshape(-1, 2)

    for value in chart.edges:
        yield Line(points(value, np.array([chart.y.low, chart.y.high])), "edge")
    for each in chart.series:
        colour, dash = each.colour % CURVES, each.colour // CURVES
        curve = points(each.x, each.y)
        if each.is_filled and len(curve):
            ends = np.array([[curve[-1, 0], bottom], [curve[0, 0], bottom]])
            yield Area(np.concatenate([curve, ends]), colour)
        yield Line(curve, "curve", colour, dash)
        for x, low, high in each.whiskers:
            yield Line(points(x, np.array([low, high])), "whisker", colour)


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= least * (1 - 1e-9))


def _log(value: float) -> float:
    """log10, exact for powers of ten."""
    return round(math.log10(value), 9)
