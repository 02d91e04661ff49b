"""Histograms of scores with bins fine enough for ROC and DET curves.

A bin is 2^-17 wide, and no score is rounded into another bin. FAR and TAR at an edge between bins
are therefore exact for any number of pairs. The area under the ROC and the equal error rate are
reported with an error bound, which comes from bins with pairs of both kinds. Memory: 4 MB.
"""

from dataclasses import dataclass, field

import numpy as np

from distill.evaluation.pair_scan import Tile
from distill.evaluation.rates import LEAST_ALLOWED
from distill.evaluation.score_arrays import binned

BINS = 1 << 18
"""From -1 to 1; one extra bin on either side for cosines that rounding moves beyond 1."""
_WIDTH = 2 / BINS
POINTS = 100
"""Points of a curve, at logarithmically spaced FARs; half as many more at FRRs."""


@dataclass(frozen=True)
class Curve:
    """The points of a curve in ascending order of ``thresholds`` [K].

    A pair is accepted if its score reaches the threshold. ``far`` [K] and ``tar`` [K] are the
    shares of accepted impostor and genuine pairs.
    """

    thresholds: np.ndarray
    far: np.ndarray
    tar: np.ndarray


@dataclass(frozen=True)
class Bounded:
    """A value that differs from the exact one by at most ``within``."""

    value: float
    within: float


@dataclass(frozen=True)
class ScoreCounts:
    """Numbers of ``genuine`` and ``impostors`` pairs per bin, int64 [BINS + 2] each."""

    genuine: np.ndarray = field(default_factory=lambda: np.zeros(BINS + 2, np.int64))
    impostors: np.ndarray = field(default_factory=lambda: np.zeros(BINS + 2, np.int64))

    def add(self, cosines: np.ndarray, same: np.ndarray) -> None:
        """Count explicit pairs: ``cosines`` [P], genuine where ``same`` [P]."""
        self.genuine[:] += binned(cosines[same], BINS)
        self.impostors[:] += binned(cosines[~same], BINS)

    @property
    def both_kinds(self) -> bool:
        """Whether there are pairs of both kinds; otherwise there is no curve."""
        return bool(self.genuine.any() and self.impostors.any())

    def area_under_roc(self) -> Bounded:
        """Probability that a genuine pair outscores an impostor pair; ties count half."""
        genuine = self.genuine / self.genuine.sum()
        impostors = self.impostors / self.impostors.sum()
        below = np.cumsum(impostors) - impostors
        unknown = float(genuine @ impostors) / 2
        return Bounded(min(1.0, float(genuine @ below) + unknown), unknown)

    def equal_error_rate(self) -> Bounded:
        """The minimum over all thresholds of the larger of FAR and FRR."""
        far, frr = self._rates()
        crossed = int(np.argmax(far < frr))  # the last edge is above all scores
        found = min(far[crossed - 1], frr[crossed])
        return Bounded(float(found), float(found - max(far[crossed], frr[crossed - 1])))

    def curve(self) -> Curve:
        """Points of the ROC and DET curves, without those with fewer than ten false accepts."""
        far, frr = self._rates()
        impostors, genuine = int(self.impostors.sum()), int(self.genuine.sum())
        last = np.searchsorted(-far, -LEAST_ALLOWED / impostors, side="right") - 1
        if last < 0:
            return Curve(np.empty(0), np.empty(0), np.empty(0))
        fars = np.geomspace(LEAST_ALLOWED / impostors, 1, POINTS)
        frrs = np.geomspace(1 / genuine, 1, POINTS // 2)
        chosen = np.unique(
            np.concatenate(
                [np.searchsorted(-far, -fars, side="left"), np.searchsorted(frr, frrs) - 1, [last]]
            )
        )
        chosen = chosen[(chosen >= 0) & (chosen <= last)]
        same = (np.diff(far[chosen], prepend=np.nan) == 0) & (
            np.diff(frr[chosen], prepend=np.nan) == 0
        )
        chosen = chosen[~same]
        return Curve(_edges()[chosen], far[chosen], 1 - frr[chosen])

    def _rates(self) -> tuple[np.ndarray, np.ndarray]:
        """FAR and FRR [BINS + 3] at each edge; scores at or above the edge are accepted."""
        below = [np.concatenate([[0], np.cumsum(one)]) for one in (self.impostors, self.genuine)]
        return (below[0][-1] - below[0]) / below[0][-1], below[1] / below[1][-1]


def _edges() -> np.ndarray:
    return -1 + (np.arange(BINS + 3) - 1) * _WIDTH


class CountedScores:
    """A collector of `pair_scan` that counts all scores, in ``counts`` if given."""

    def __init__(self, counts: ScoreCounts | None = None) -> None:
        self.counts = ScoreCounts() if counts is None else counts

    def add(self, tile: Tile) -> None:
        """Count the scores of a tile."""
        self.counts.impostors[:] += tile.scores.binned(BINS)
        if tile.mate_scores is not None:
            self.counts.genuine[:] += binned(tile.mate_scores, BINS)
