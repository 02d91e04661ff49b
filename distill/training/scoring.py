"""Evaluation of the network at intervals during training.

It evaluates copies of the weights, so that it does not affect training.
"""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from torch import Tensor

from curation.progress import Progress
from distill.training import distributed
from distill.training.checkpoints import SCORE, best_checkpoint, scores_of
from distill.training.meter import Watch


class Measure(NamedTuple):
    """A measurement on a set other than accuracy."""

    name: str
    set: str


Evaluate = Callable[[Mapping[str, Tensor], Progress], Mapping[str | Measure, float]]
"""The accuracies of a network with these weights, by set name; empty if its embeddings are
unusable. Other measurements do not count towards the score. It must not change the weights, and
calls its progress often. All ranks call it, and all get the same result or error."""


class _Interrupted(Exception):  # noqa: N818 - not an error: the training was asked to stop
    """The training was asked to stop during an evaluation."""


class Scoring:
    """Evaluates every ``every`` steps and after the last one; never if ``every`` is None.

    All ranks run ``evaluate`` together, and rank 0 reports to the watch.
    """

    def __init__(
        self, evaluate: Evaluate | None, every: int | None, checkpoints: Path, watch: Watch
    ) -> None:
        self.evaluate, self.every = evaluate, every
        self.checkpoints, self.watch = checkpoints, watch

    def is_due(self, done: int, steps: int) -> bool:
        """Whether the network must be evaluated after ``done`` of ``steps`` steps."""
        return self.every is not None and done > 0 and (done % self.every == 0 or done == steps)

    def scores(self, weights: Mapping[str, Tensor], done: int) -> dict[str, float] | None:
        """``accuracy_NAME`` of each set and their mean, ``score``; also reported to the watch.

        Equal on every rank. Empty if the network has no accuracy, None if the training was asked to
        stop meanwhile.
        """
        assert self.evaluate is not None, "whoever sets evaluate_every gives it to every rank"
        began = time.monotonic()
        try:
            measured = self.evaluate(weights, self._until_stopped)
        except _Interrupted:
            return None
        return distributed.on_first_rank(lambda: self._report(measured, done, began))

    def are_best(self, scores: dict[str, float]) -> bool:
        """Whether they beat the scores of every checkpoint; equal on every rank."""
        better = None
        if distributed.rank() == 0:
            best = best_checkpoint(self.checkpoints)
            before = -math.inf if best is None else scores_of(best)[SCORE]
            better = scores.get(SCORE, -math.inf) > before
        return distributed.from_first_rank(better)

    def _report(
        self, measured: Mapping[str | Measure, float], done: int, began: float
    ) -> dict[str, float]:
        accuracies = {name: each for name, each in measured.items() if isinstance(name, str)}
        scores = {f"accuracy_{name}": round(value, 6) for name, value in accuracies.items()}
        if accuracies:
            scores[SCORE] = round(fmean(accuracies.values()), 6)
        seconds = round(time.monotonic() - began, 2)
        others = {
            f"{key.name}_{key.set}": round(value, 6)
            for key, value in measured.items()
            if isinstance(key, Measure)
        }
        self.watch.metrics({"iteration": done, **scores, **others, "evaluation_seconds": seconds})
        return scores

    def _until_stopped(self, done: int, total: int) -> None:
        if self.watch.stop():
            raise _Interrupted
