"""Generations of a student: which candidate continues, when to stop, which one is delivered."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np

from curation.errors import UserError
from distill.evaluation.bootstrap import interval
from distill.evaluation.paired import PairedDifference
from distill.pipeline.scores import accuracies
from distill.pipeline.steps import StepOutcome
from distill.pipeline.work import TrainedNetwork
from distill.spec import GenerationsSpec
from teachers.usable import UnusableEmbeddingsError


@dataclass(frozen=True)
class Candidate:
    """A network trained in one generation from one seed; ``accuracies`` by set, if it was scored.

    ``draws`` are its bootstrap scores, from the same resampled people for all candidates
    (`distill.evaluation.paired.drawn_mean_accuracies`).
    """

    name: str
    generation: int
    seed: int
    trained: TrainedNetwork
    accuracies: dict[str, float] = field(default_factory=dict)
    draws: np.ndarray = field(default_factory=lambda: np.empty(0), compare=False, repr=False)

    @property
    def score(self) -> float:
        """The mean accuracy; NaN if it was not scored."""
        return fmean(self.accuracies.values()) if self.accuracies else math.nan


class Generations:
    """All generations so far. ``best`` lists the candidates that later generations start from."""

    def __init__(self, settings: GenerationsSpec) -> None:
        self.settings = settings
        self.candidates: list[Candidate] = []
        self.best: list[Candidate] = []

    def add(self, candidates: Sequence[Candidate]) -> None:
        """Add a generation; its best candidate has the highest score, the first in a tie."""
        self.candidates += candidates
        self.best.append(max(candidates, key=lambda candidate: candidate.score))

    @property
    def start(self) -> TrainedNetwork | None:
        """The network that the next generation starts from; None before the first."""
        return self.best[-1].trained if self.best else None

    @property
    def newest(self) -> list[Candidate]:
        """The candidates of the last generation."""
        return [each for each in self.candidates if each.generation == self.best[-1].generation]

    @property
    def delivered(self) -> Candidate:
        """The last generation's best; if generations must gain, the best of the last one that
        did."""
        return self.best[-2] if self.reason_to_stop is not None else self.best[-1]

    @property
    def in_order_of_delivery(self) -> list[Candidate]:
        """The best of each generation, with the delivered one last."""
        return [each for each in self.best if each is not self.delivered] + [self.delivered]

    @property
    def reason_to_stop(self) -> str | None:
        """Why there should be no further generation, with the numbers; None if there may be one."""
        if not self.settings.stop_without_gain or len(self.best) < 2:
            return None
        before, last = self.best[-2:]
        gain, least = _difference(before, last), self.settings.least_gain
        if last.score - before.score <= least:
            wanted = f" of more than {least:g}, which generations.least_gain requires"
            reason = f"no gain{wanted if least else ''}"
        elif not gain.is_more_than_noise:
            reason = "the gain is within noise"
        else:
            return None
        return f"generation {last.generation}: {_compared(before, last)}; {reason}"

    @property
    def note(self) -> str:
        """The newest generation in one line: its scores, its best, and why it is the last one."""
        best = self.best[-1]
        words = [f"{best.score:.4f}"]
        if len(self.newest) > 1:
            scores = ", ".join(f"seed {each.seed} {each.score:.4f}" for each in self.newest)
            words = [scores, f"best: seed {best.seed}{self._level_seeds()}"]
        return "; ".join([*words, *filter(None, [self.reason_to_stop])])

    def _level_seeds(self) -> str:
        """The newest candidates whose gap to the best is within noise."""
        best = self.best[-1]
        level = [
            str(each.seed)
            for each in self.newest
            if each is not best and not _difference(each, best).is_more_than_noise
        ]
        return f" (within noise of it: {', '.join(level)})" if level else ""

    def record(self) -> dict[str, Any]:
        """Every candidate with its scores, the gains of the generations, and the delivered one, in
        the format of evaluation.json."""
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
            "differences": [
                {
                    "from": before.name,
                    "to": after.name,
                    "score": after.score - before.score,
                    "interval": _difference(before, after).interval,
                    "more_than_noise": _difference(before, after).is_more_than_noise,
                }
                for before, after in pairwise(self.best)
            ],
            "delivered": self.delivered.name,
            "stopped": self.reason_to_stop,
        }


def _difference(first: Candidate, second: Candidate) -> PairedDifference:
    drawn = interval(second.draws - first.draws)
    return PairedDifference("score", first.score, second.score, drawn)


def _compared(first: Candidate, second: Candidate) -> str:
    low, high = _difference(first, second).interval
    return (
        f"{second.score:.4f} after {first.score:.4f} "
        f"(95 % interval of the difference: {low:+.4f} to {high:+.4f})"
    )


def scored_candidates(
    candidates: Sequence[Candidate], score: Callable[[Candidate], StepOutcome]
) -> tuple[list[Candidate], dict[str, StepOutcome], list[str]]:
    """Score the candidates of a generation.

    Returns those with usable embeddings, their outcomes by name, and why others are left out.
    ``UserError`` if all are.
    """
    scored, outcomes, reasons = [], {}, []
    for each in candidates:
        try:
            outcome = outcomes[each.name] = score(each)
        except UnusableEmbeddingsError as error:
            reasons.append(f"seed {each.seed} is left out: {error}")
        else:
            scored.append(replace(each, accuracies=accuracies(outcome.result)))
    if not scored:
        raise UserError(
            f"no candidate of generation {candidates[-1].generation} is usable: {reasons[-1]}"
        )
    return scored, outcomes, reasons
