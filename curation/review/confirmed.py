"""The measured calibration of a check: how often reviewers confirmed it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from curation.review.events import ReviewEvent

BINS = 5
LEAST = 20
"""Minimum number of decisions in a bin"""
_Z = 1.959964
"""Standard deviations of the central 95 % of a normal distribution"""


@dataclass(frozen=True)
class ConfirmedShare:
    """The decisions on scores of one bin."""

    check: str
    called: float
    """The mean score"""
    confirmed: float
    """Share that reviewers confirmed"""
    low: float
    high: float
    """Wilson's 95 % interval of that share"""
    decided: int

    def __str__(self) -> str:
        return (
            f"{self.check} scored {self.called:.2f}, you confirmed {self.confirmed:.2f} "
            f"({self.decided:,} decided, 95 % interval {self.low:.2f} to {self.high:.2f})"
        )


def measured_calibration(decided: Iterable[ReviewEvent]) -> list[ConfirmedShare]:
    """Per check and bin of the score, for bins with at least ``LEAST`` clear decisions.

    The bins divide the flagged range 0.5 to 1 equally; lower scores count in the first.
    """
    sums: dict[tuple[str, int], list[float]] = {}
    for event in decided:
        if event.confirmed is not None:
            place = min(max(int((event.score - 0.5) * 2 * BINS), 0), BINS - 1)
            entry = sums.setdefault((event.check, place), [0.0, 0.0, 0.0])
            entry[0] += event.score
            entry[1] += event.confirmed
            entry[2] += 1
    return [
        ConfirmedShare(check, called / n, right / n, *wilson(right / n, n), int(n))
        for (check, _), (called, right, n) in sorted(sums.items())
        if n >= LEAST
    ]


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval (1927) of a share of ``n``."""
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)
