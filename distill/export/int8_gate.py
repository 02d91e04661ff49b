"""Whether a quantised network may be shipped: what it loses on evaluation sets.

It may not lose 0.2 points of accuracy, nor 2 points of TAR at a FAR of 1e-3. Both networks are
measured on the same draws of people: a set whose interval is wider than the limit cannot tell,
except of a loss that is beyond doubt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from distill.evaluation.paired import Measures, PairedDifference, compared, measures
from distill.evaluation.protocols.protocol import ProtocolSet
from distill.evaluation.set_features import EvaluationSet, NetworkFeatures
from teachers.embedder import Embedder

LIMITS = {"accuracy": 0.002, "TAR at FAR 1e-3": 0.02}
"""By measure, what is too much to lose"""


@dataclass(frozen=True)
class Loss:
    """What a measure on one set loses."""

    name: str
    difference: PairedDifference

    @property
    def lost(self) -> float:
        return self.difference.first - self.difference.second

    @property
    def tells(self) -> bool:
        """Whether the set is large enough: its interval reaches no further than the limit."""
        low, high = self.difference.interval
        return (high - low) / 2 <= LIMITS[self.difference.measure]

    @property
    def verdict(self) -> str:
        if self.lost >= LIMITS[self.difference.measure]:
            beyond_doubt = self.tells or self.difference.interval[1] < 0
            return "too much" if beyond_doubt else "cannot tell"
        return "fine" if self.tells else "cannot tell"

    def __str__(self) -> str:
        found = self.difference
        low, high = (100 * each for each in found.interval)
        return (
            f"{self.name}: {found.measure} {found.first:.4f} to {found.second:.4f} "
            f"({low:+.2f} to {high:+.2f} points: {self.verdict})"
        )

    def told(self) -> dict[str, Any]:
        """As JSON."""
        found = self.difference
        return {
            "set": self.name,
            "measure": found.measure,
            "float32": found.first,
            "int8": found.second,
            "interval": found.interval,
            "verdict": self.verdict,
        }


def passes(losses: Sequence[Loss]) -> bool:
    """Where nothing is too much, and at least one measure is known to be fine."""
    verdicts = {each.verdict for each in losses}
    return "too much" not in verdicts and "fine" in verdicts


def gate(sets: Sequence[EvaluationSet], reference: Embedder) -> Callable[[Embedder], list[Loss]]:
    """What judges networks against ``reference``, which embeds each set once."""
    judged = [each for each in sets if not isinstance(each, ProtocolSet)]
    first = [measures(NetworkFeatures(reference).features(each), each) for each in judged]

    def judge(candidate: Embedder) -> list[Loss]:
        second = (measures(NetworkFeatures(candidate).features(each), each) for each in judged)
        return [
            Loss(each.name, found)
            for each, before, after in zip(judged, first, second, strict=True)
            for found in _limited(before, after)
        ]

    return judge


def _limited(before: Measures, after: Measures) -> list[PairedDifference]:
    return [each for each in compared(before, after) if each.measure in LIMITS]
