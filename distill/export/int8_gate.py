"""The quality gate for quantised networks: limits their losses on evaluation sets.

A network must lose less than 0.2 points of accuracy and 2 points of TAR at a FAR of 1e-3. Both
networks are measured on the same draws of people. A set whose interval is wider than the limit is
inconclusive, unless the loss is significant.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from teachers.embedder import Embedder

LIMITS = {"accuracy": 0.002, "TAR at FAR 1e-3": 0.02}
"""The loss at which a network is refused, by measure"""


@dataclass(frozen=True)
class MeasuredLoss:
    """A measure on one set: ``first`` for float32, ``second`` for int8.

    ``interval`` is the 95 % interval of second minus first.
    """

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
        """Whether the set is conclusive: half of its interval is within the limit."""
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

    def details(self) -> dict[str, Any]:
        """The loss and its verdict, as JSON."""
        return {
            "set": self.name,
            "measure": self.measure,
            "float32": self.first,
            "int8": self.second,
            "interval": self.interval,
            "verdict": self.verdict,
        }


def passes(losses: Sequence[MeasuredLoss]) -> bool:
    """Whether no loss is too large, and at least one measure is known to be fine."""
    verdicts = {each.verdict for each in losses}
    return "too much" not in verdicts and "fine" in verdicts


Judge = Callable[[Embedder], list[MeasuredLoss]]
"""Measures the losses of a network against the float32 network"""

Gate = Callable[[Embedder], Judge]
"""Maps the float32 network to a judge of other networks"""
