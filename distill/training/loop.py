"""The one training loop, for teachers and students, with and without distillation."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curation.errors import UserError
from curation.progress import Progress
from curation.views import ImageSet
from distill.losses import WeightedLosses
from distill.training.checkpoints import load_checkpoint, save_checkpoint
from distill.training.config import TrainSettings
from distill.training.data import BatchLoader, BatchPlan
from distill.training.engines import create_engine
from distill.training.learner import Learner
from distill.training.memory import keep_freed_memory
from distill.training.schedule import learning_rate
from teachers.embeddings import EmbeddingCache
from teachers.preprocessing import Preprocessing


class Stopped(Exception):  # noqa: N818 - not an error: the training was asked to stop, and saved
    """The training was asked to stop and has written a checkpoint."""


@dataclass(frozen=True)
class Training:
    """All that determines the weights that come out.

    ``cache`` is needed where a loss asks for the teacher. ``network`` and ``losses`` hold the
    starting weights and are trained in place.
    """

    network: nn.Module
    losses: WeightedLosses
    preprocessing: Preprocessing
    images: ImageSet
    cache: EmbeddingCache | None
    epochs: int
    settings: TrainSettings


@dataclass(frozen=True)
class Watch:
    """How a training is followed and stopped."""

    metrics: Callable[[dict[str, Any]], None]
    progress: Progress
    stop: Callable[[], bool]


def train(training: Training, checkpoints: Path, watch: Watch) -> dict[str, float]:
    """Train to the end from the newest checkpoint; the last losses.

    Raises ``Stopped`` after saving where ``watch.stop()`` says so, and ``UserError`` with a
    diagnosis where a loss is no longer a number.
    """
    settings = training.settings
    keep_freed_memory()
    torch.manual_seed(settings.seed)
    plan = BatchPlan(len(training.images), settings.batch_size, settings.seed)
    steps = training.epochs * plan.steps_per_epoch
    learner = Learner(training.network, training.losses, training.preprocessing)
    cache = training.cache if training.losses.needs_teacher else None
    with BatchLoader(
        training.images, training.preprocessing, plan, cache, settings.decode_threads
    ) as loader:
        engine = create_engine(learner, settings)
        first = load_checkpoint(checkpoints, engine.load)
        meter = Meter(settings, plan, watch, first)
        learner.train()
        for step, batch in enumerate(loader.batches(first, steps), start=first):
            rate = learning_rate(settings, step, steps)
            losses = engine.step(batch, rate)
            done = step + 1
            last = done == steps
            if done % settings.log_every == 0 or last:
                meter.log(done, steps, rate, losses)
            stop = watch.stop() and not last
            if done % settings.checkpoint_every == 0 or last or stop:
                _check_finite(losses, step)
                save_checkpoint(checkpoints, done, engine.save)
            if stop:
                raise Stopped
    return meter.latest


def _check_finite(losses: dict[str, Tensor], step: int) -> None:
    """A checkpoint of a network that diverged would spoil the resume."""
    bad = [name for name, loss in losses.items() if not torch.isfinite(loss)]
    if bad:
        raise UserError(
            f"the loss {bad[-1]!r} is not finite at step {step}; training has diverged: lower "
            "train.learning_rate, or set train.clip_gradient_norm, and run again"
        )


class Meter:
    """Turns losses into metrics and progress; the speed is since the line before."""

    def __init__(self, settings: TrainSettings, plan: BatchPlan, watch: Watch, first: int) -> None:
        self.settings, self.plan, self.watch = settings, plan, watch
        self.since, self.at = first, time.monotonic()
        self.latest: dict[str, float] = {}

    def log(self, done: int, steps: int, rate: float, losses: dict[str, Tensor]) -> None:
        """Report after ``done`` of ``steps``; raises where a loss is not finite."""
        _check_finite(losses, done - 1)
        now = time.monotonic()
        speed = (done - self.since) * self.settings.batch_size / max(now - self.at, 1e-9)
        self.since, self.at = done, now
        self.latest = {f"loss_{name}": round(loss.item(), 6) for name, loss in losses.items()}
        self.watch.metrics(
            {
                "iteration": done,
                "epoch": round(done / self.plan.steps_per_epoch, 4),
                "learning_rate": rate,
                "images_per_second": round(speed, 2),
                **self.latest,
            }
        )
        self.watch.progress(done, steps)
