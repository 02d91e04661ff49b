"""Curves in a terminal: a line of blocks, or a plot of braille dots."""

import math
from collections.abc import Sequence
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a braille character: the left and the right column, from the top"""
_BRAILLE = 0x2800


def sparkline(values: Sequence[float], width: int) -> str:
    """One character per stretch of ``values``; its height is the mean, scaled to the range."""
    means = _means([value for value in values if math.isfinite(value)], width)
    if not means:
        return ""
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(BLOCKS[min(7, int(8 * (mean - low) / span))] for mean in means)


def braille(values: Sequence[float], width: int, height: int) -> list[str]:
    """``height`` lines of ``width`` characters with the curve of ``values``, the maximum on top."""
    means = _means([value for value in values if math.isfinite(value)], 2 * width)
    cells = [[0] * width for _ in range(height)]
    if means:
        low, high = min(means), max(means)
        span, most = (high - low) or 1.0, 4 * height - 1
        heights = [round(most * (mean - low) / span) for mean in means]
        for at, dot in enumerate(heights):
            before = heights[at - 1] if at else dot
            for y in range(min(dot, before), max(dot, before) + 1):  # no gaps
                row = most - y
                cells[row // 4][at // 2] |= _DOTS[at % 2][row % 4]
    return ["".join(chr(_BRAILLE + cell) for cell in line) for line in cells]


def _means(values: Sequence[float], count: int) -> list[float]:
    """The means of ``count`` equal stretches; fewer values are returned unchanged."""
    if len(values) <= count:
        return list(values)
    edges = [i * len(values) // count for i in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges) if b > a]
