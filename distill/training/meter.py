"""Metrics and progress of a running training."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from curation.progress import Progress
from distill.notices import Warn
from distill.training.data import BatchLoader


@dataclass(frozen=True)
class Watch:
    """Callbacks to follow and stop a training."""

    metrics: Callable[[dict[str, Any]], None]
    progress: Progress
    stop: Callable[[], bool]
    warn: Warn = field(default=lambda notice: None)


class Meter:
    """Turns losses into metrics and progress; speed and waiting time cover one log interval."""

    def __init__(self, loader: BatchLoader, watch: Watch, first: int, steps: int) -> None:
        self.loader, self.watch, self.steps = loader, watch, steps
        self.since, self.at, self.waited = first, time.monotonic(), loader.waited_seconds

    def leave_out(self, since: float) -> None:
        """Exclude the time since ``since`` (``time.monotonic``) from the training speed."""
        self.at += time.monotonic() - since

    def log(
        self, done: int, learning_rate: float, gradient_norm: float, losses: dict[str, float]
    ) -> None:
        """Report after step ``done``; all values are for the batch of all ranks.

        ``losses`` may include other values, such as ``loss_statistics``. ``data_wait`` is the share
        of the time that rank 0 waited for images.
        """
        now, waited = time.monotonic(), self.loader.waited_seconds
        seconds = max(now - self.at, 1e-9)
        images = (done - self.since) * self.loader.plan.batch_size
        self.watch.metrics(
            {
                "iteration": done,
                "epoch": round(done / self.loader.plan.steps_per_epoch, 4),
                "learning_rate": learning_rate,
                "images_per_second": round(images / seconds, 2),
                "data_wait": round((waited - self.waited) / seconds, 4),
                "gradient_norm": round(gradient_norm, 6),
                **losses,
            }
        )
        self.since, self.at, self.waited = done, now, waited
        self.watch.progress(
            done * self.loader.plan.batch_size, self.steps * self.loader.plan.batch_size
        )


def loss_statistics(losses: nn.Module) -> dict[str, float]:
    """The ``statistics`` of all losses that keep them, by name, for the last batch."""
    return {
        name: round(float(value), 6)
        for loss in losses.modules()
        for name, value in getattr(loss, "statistics", {}).items()
    }
