"""Generations of a student: which candidate of each goes on, when to stop, which is delivered."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from distill.pipeline.work import TrainedNetwork
from distill.spec import GenerationsSpec


@dataclass(frozen=True)
class Candidate:
    """What one generation trained from one seed; ``accuracies`` by set, where it was scored."""

    name: str
    generation: int
    seed: int
    trained: TrainedNetwork
    accuracies: dict[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """The mean accuracy; NaN where it was not scored."""
        return fmean(self.accuracies.values()) if self.accuracies else math.nan


class Generations:
    """The generations so far. ``best`` has the candidate of each that the next one starts from."""

    def __init__(self, settings: GenerationsSpec) -> None:
        self.settings = settings
        self.candidates: list[Candidate] = []
        self.best: list[Candidate] = []

    def add(self, candidates: Sequence[Candidate]) -> None:
        """Take in one more generation; the best has the highest score, the first of equals."""
        self.candidates += candidates
        self.best.append(max(candidates, key=lambda candidate: candidate.score))

    @property
    def start(self) -> TrainedNetwork | None:
        """What the next generation starts from; None before the first."""
        return self.best[-1].trained if self.best else None

    @property
    def newest(self) -> list[Candidate]:
        """The candidates of the last generation."""
        return [each for each in self.candidates if each.generation == self.best[-1].generation]

    @property
    def delivered(self) -> Candidate:
        """The last generation's best; where generations must gain, the best of all."""
        if self.settings.stop_without_gain:
            return max(self.best, key=lambda candidate: candidate.score)
        return self.best[-1]

    @property
    def in_order_of_delivery(self) -> list[Candidate]:
        """The best of each generation, the delivered one last."""
        return [each for each in self.best if each is not self.delivered] + [self.delivered]

    @property
    def reason_to_stop(self) -> str | None:
        """Why there should be no further generation, with the numbers; None where there may be."""
        if not self.settings.stop_without_gain or len(self.best) < 2:
            return None
        last, before = self.best[-1], max(each.score for each in self.best[:-1])
        if last.score - before > self.settings.least_gain:
            return None
        return (
            f"generation {last.generation}: {last.score:.4f} after {before:.4f}; not the gain of "
            f"more than {self.settings.least_gain:g} that generations.least_gain asks for"
        )

    @property
    def note(self) -> str:
        """The newest generation in one line: its scores, its best, and why it is the last."""
        best = self.best[-1]
        words = [f"{best.score:.4f}"]
        if len(self.newest) > 1:
            scores = ", ".join(f"seed {each.seed} {each.score:.4f}" for each in self.newest)
            words = [scores, f"best: seed {best.seed}"]
        return "; ".join([*words, *filter(None, [self.reason_to_stop])])

    def record(self) -> dict[str, Any]:
        """Every candidate with its scores, and what was delivered, as evaluation.json has them."""
        return {
            "candidates": [
                {
                    "name": each.name,
                    "generation": each.generation,
                    "seed": each.seed,
                    "step": each.trained.id,
                    "accuracies": each.accuracies,
                    "score": each.score,
                }
                for each in self.candidates
            ],
            "delivered": self.delivered.name,
            "stopped": self.reason_to_stop,
        }
