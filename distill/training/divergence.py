"""Detects that a training has diverged, and saves a report for the diagnosis."""

import json
import math
from pathlib import Path
from typing import Any

import torch

from curation.errors import UserError
from curation.files import atomic_file
from distill.training import distributed
from distill.training.engine import StepReport
from distill.training.shuffles import BatchPlan

REPORT = "divergence.json"
LARGEST = 10
"""How many parameters the report names, largest gradients first"""


class Diverged(UserError):  # noqa: N818 - the name says what happened
    """A loss or a gradient is not finite."""


class DivergenceCheck:
    """Records the steps since the last check, so that the first bad step can be found.

    A check synchronises with the device, so on a GPU it runs only when the losses are read anyway.
    """

    def __init__(self, plan: BatchPlan, checkpoints: Path) -> None:
        self.plan, self.report = plan, checkpoints.parent / REPORT
        self._recent: list[tuple[int, float, StepReport]] = []

    def add(self, step: int, learning_rate: float, report: StepReport) -> None:
        """Record step ``step`` (from 0), done at ``learning_rate``."""
        self._recent.append((step, learning_rate, report))

    def check(self) -> None:
        """Raise ``Diverged`` on all ranks if any step since the last check was bad on any rank."""
        recent, self._recent = self._recent, []
        bad = [not _is_finite(report) for _, _, report in recent]
        if not distributed.any_rank(any(bad)):
            return
        # Gradients are equal on all ranks, and a bad loss makes bad gradients. If only one rank
        # noticed, the others report the last step.
        step, learning_rate, report = recent[bad.index(True) if any(bad) else -1]
        losses = distributed.mean_over_ranks(report.losses)
        if distributed.rank() == 0:
            self._write(step, learning_rate, losses, report)
        raise Diverged(
            f"{_fault(losses)} is not finite at step {step} (learning rate {learning_rate:.4g}, "
            f"gradient norm {report.gradient_norm:.4g}); training has diverged: lower "
            "train.learning_rate, or set train.clip_gradient_norm or train.on_divergence, and run "
            f"again; {self.report} has the images and the largest gradients"
        )

    def _write(
        self, step: int, learning_rate: float, losses: dict[str, float], report: StepReport
    ) -> None:
        epoch, position = divmod(step, self.plan.steps_per_epoch)
        order, _ = self.plan.epoch(epoch)
        first = position * self.plan.batch_size
        found = {
            "step": step,
            "epoch": epoch,
            "learning_rate": learning_rate,
            "losses": {name: _number(loss) for name, loss in losses.items()},
            "gradient_norm": _number(float(report.gradient_norm)),
            "largest_gradients": _largest(report),
            "images": order[first : first + self.plan.batch_size].tolist(),
        }
        with atomic_file(self.report) as file:
            file.write(json.dumps(found, indent=2).encode())


def _is_finite(report: StepReport) -> bool:
    values = torch.stack([*report.losses.values(), report.gradient_norm])
    return bool(values.isfinite().all())


def _fault(losses: dict[str, float]) -> str:
    """The loss that is not finite, instead of the total that it makes so."""
    bad = [name for name, loss in losses.items() if not math.isfinite(loss)]
    return f"the loss {bad[-1]!r}" if bad else "the gradient"


def _largest(report: StepReport) -> list[dict[str, Any]]:
    norms = {name: float(norm) for name, norm in report.layer_norms.items()}
    order = sorted(norms, key=lambda name: _rank(norms[name]), reverse=True)
    return [{"parameter": name, "norm": _number(norms[name])} for name in order[:LARGEST]]


def _rank(norm: float) -> float:
    """Sort key: NaN is worse than infinite."""
    return norm if math.isfinite(norm) else math.inf


def _number(value: float) -> float | str:
    """JSON has neither infinity nor NaN."""
    return value if math.isfinite(value) else str(value)
