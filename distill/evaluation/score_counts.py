"""How many pairs have which score, in bins fine enough for whole curves: ROC, DET, histograms.

A bin is 2^-17 wide, and no score is rounded into another. So FAR and TAR at an edge
between bins are exact, whatever the number of pairs. Area and equal error rate are known to within
what pairs of both kinds in one bin leave open, which is told. Memory: 4 MB.
"""

from dataclasses import dataclass, field

import numpy as np

from distill.evaluation.pair_scan import Tile
from distill.evaluation.rates import LEAST_ALLOWED
from distill.evaluation.score_arrays import binned

BINS = 1 << 18
"""From -1 to 1; one more on either side for what rounding makes larger than 1."""
_WIDTH = 2 / BINS
POINTS = 100
"""Of a curve, at FARs in equal steps of their logarithm; half as many at FRRs"""


@dataclass(frozen=True)
class Curve:
    """Points in the order of rising thresholds: a pair is accepted from ``thresholds`` [K] on.

    ``far`` [K] of the impostor pairs and ``tar`` [K] of the genuine ones are accepted there.
    """

    thresholds: np.ndarray
    far: np.ndarray
    tar: np.ndarray


@dataclass(frozen=True)
class Bounded:
    """A value that is at most ``within`` away from the exact one."""

    value: float
    within: float


@dataclass(frozen=True)
class ScoreCounts:
    """Numbers of ``genuine`` and of ``impostors`` pairs, int64 [BINS + 2] each."""

    genuine: np.ndarray = field(default_factory=lambda: np.zeros(BINS + 2, np.int64))
    impostors: np.ndarray = field(default_factory=lambda: np.zeros(BINS + 2, np.int64))

    @property
    def both_kinds(self) -> bool:
        """Whether there are pairs of both kinds, without which there is no curve."""
        return bool(self.genuine.any() and self.impostors.any())

    def area_under_roc(self) -> Bounded:
        """The chance that a genuine pair scores above an impostor pair; equal scores count half."""
        genuine = self.genuine / self.genuine.sum()
        impostors = self.impostors / self.impostors.sum()
        below = np.cumsum(impostors) - impostors
        unknown = float(genuine @ impostors) / 2
        return Bounded(min(1.0, float(genuine @ below) + unknown), unknown)

    def equal_error_rate(self) -> Bounded:
        """The lowest rate that neither FAR nor FRR exceeds at some threshold."""
        far, frr = self._rates()
        crossed = int(np.argmax(far < frr))  # the last edge is above all scores
        found = min(far[crossed - 1], frr[crossed])
        return Bounded(float(found), float(found - max(far[crossed], frr[crossed - 1])))

    def curve(self) -> Curve:
        """The points that show ROC and DET, without those of fewer than ten false accepts."""
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
        """FAR and FRR at each edge, [BINS + 3], where what lies at or above it is accepted."""
        below = [np.concatenate([[0], np.cumsum(one)]) for one in (self.impostors, self.genuine)]
        return (below[0][-1] - below[0]) / below[0][-1], below[1] / below[1][-1]


def _edges() -> np.ndarray:
    return -1 + (np.arange(BINS + 3) - 1) * _WIDTH


def listed_counts(cosines: np.ndarray, same: np.ndarray) -> ScoreCounts:
    """Of explicit pairs: ``cosines`` [P], genuine where ``same`` [P]."""
    return ScoreCounts(binned(cosines[same], BINS), binned(cosines[~same], BINS))


class CountedScores:
    """A collector of `pair_scan` that counts all scores."""

    def __init__(self) -> None:
        self.counts = ScoreCounts()

    def add(self, tile: Tile) -> None:
        """Count the scores of a tile."""
        self.counts.impostors[:] += tile.scores.binned(BINS)
        if tile.mate_scores is not None:
            self.counts.genuine[:] += binned(tile.mate_scores, BINS)
