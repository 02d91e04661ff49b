"""Whether a quantised network may be shipped: what it loses on evaluation sets.

It may not lose 0.2 points of accuracy, nor 2 points of TAR at a FAR of 1e-3. Both networks are
measured on the same draws of people: a set whose interval is wider than the limit cannot tell,
except of a loss that is beyond doubt.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from teachers.embedder import Embedder

LIMITS = {"accuracy": 0.002, "TAR at FAR 1e-3": 0.02}
"""By measure, what is too much to lose"""


@dataclass(frozen=True)
class MeasuredLoss:
    """Of a measure on one set: float32's ``first``, int8's ``second``, and the 95 % interval of
    second less first."""

    name: str
    measure: str
    first: float
    second: float
    interval: list[float]

    @property
    def lost(self) -> float:
        return self.first - self.second

    @property
    def tells(self) -> bool:
        """Whether the set is large enough: its interval reaches no further than the limit."""
        low, high = self.interval
        return (high - low) / 2 <= LIMITS[self.measure]

    @property
    def verdict(self) -> str:
        if self.lost >= LIMITS[self.measure]:
            beyond_doubt = self.tells or self.interval[1] < 0
            return "too much" if beyond_doubt else "cannot tell"
        return "fine" if self.tells else "cannot tell"

    def __str__(self) -> str:
        low, high = (100 * each for each in self.interval)
        return (
            f"{self.name}: {self.measure} {self.first:.4f} to {self.second:.4f} "
            f"({low:+.2f} to {high:+.2f} points: {self.verdict})"
        )

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "set": self.name,
            "measure": self.measure,
            "float32": self.first,
            "int8": self.second,
            "interval": self.interval,
            "verdict": self.verdict,
        }


def passes(losses: Sequence[MeasuredLoss]) -> bool:
    """Where nothing is too much, and at least one measure is known to be fine."""
    verdicts = {each.verdict for each in losses}
    return "too much" not in verdicts and "fine" in verdicts


Judge = Callable[[Embedder], list[MeasuredLoss]]
"""What another network loses against the float32 one"""

Gate = Callable[[Embedder], Judge]
"""From the float32 network to what judges others against it"""
