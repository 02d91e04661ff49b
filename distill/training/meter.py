"""What a training says of itself while it runs."""

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
    """How a training is followed and stopped."""

    metrics: Callable[[dict[str, Any]], None]
    progress: Progress
    stop: Callable[[], bool]
    warn: Warn = field(default=lambda notice: None)


class Meter:
    """Turns losses into metrics and progress; speed and waiting are since the line before."""

    def __init__(self, loader: BatchLoader, watch: Watch, first: int, steps: int) -> None:
        self.loader, self.watch, self.steps = loader, watch, steps
        self.since, self.at, self.waited = first, time.monotonic(), loader.waited_seconds

    def leave_out(self, since: float) -> None:
        """The time since ``since`` (``time.monotonic``) was no training."""
        self.at += time.monotonic() - since

    def log(
        self, done: int, learning_rate: float, gradient_norm: float, losses: dict[str, float]
    ) -> None:
        """Report after step ``done``; everything is of the whole batch of all ranks.

        ``losses`` may hold other figures beside them, such as ``loss_statistics``.
        ``data_wait`` is the share of the time in which rank 0 had to wait for images.
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
    """What those of the losses that keep ``statistics`` (by name, of the last batch) say."""
    return {
        name: round(float(value), 6)
        for loss in losses.modules()
        for name, value in getattr(loss, "statistics", {}).items()
    }
