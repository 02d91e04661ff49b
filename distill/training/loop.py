"""The training loop, for teachers and students, with and without distillation."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curation.errors import UserError
from curation.views import ImageSet
from distill.losses import WeightedLosses
from distill.notices import Notice
from distill.signals import Stopped
from distill.training import distributed
from distill.training.activation_checkpointing import checkpoint_activations
from distill.training.answers import CachedAnswers, OnlineAnswers
from distill.training.augment import NO_AUGMENTATION, AugmentSettings
from distill.training.averaging import WeightAverage
from distill.training.batch_norm import synchronise_batch_norm
from distill.training.checkpoints import (
    SCORE,
    Scores,
    best_checkpoint,
    check_whole,
    final_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    scores_of,
    step_of,
)
from distill.training.config import FROZEN, SamplerSettings, TrainSettings
from distill.training.data import BatchLoader, Shard
from distill.training.divergence import Diverged, DivergenceCheck
from distill.training.engine import StepReport, optimiser_state_that_fits
from distill.training.engines import create_engine
from distill.training.idle import IdleCheck
from distill.training.learner import Learner
from distill.training.memory import keep_freed_memory
from distill.training.meter import Meter, Watch, loss_statistics
from distill.training.plan import SHUFFLE, create_plan
from distill.training.remembering import Remembered
from distill.training.schedule import scheduled_rate
from distill.training.scoring import Evaluate, Scoring
from distill.training.shares import check_engine, check_shares
from distill.training.state_file import STATE, check_state, of_this_training, read_state
from distill.training.strided_convolutions import subsample_narrow_convolutions
from distill.training.views import StudentViews, ViewChoice
from teachers.augment.augmentation import Augmentation
from teachers.embedder import Embedder
from teachers.embedding_cache import Embeddings
from teachers.preprocessing import Preprocessing


@dataclass(frozen=True)
class Training:
    """Everything that determines the trained weights.

    A loss that uses the teacher needs ``cache``, or ``teacher`` to embed online. With ``augment``
    the student sees augmented views; ``view_caches`` are their cached embeddings by view number.
    ``network`` and ``losses`` hold the initial weights and are trained in place. ``evaluate`` is
    required on rank 0 if ``settings.evaluate_every`` is set. ``optimiser_from`` is the checkpoint
    folder of a training whose optimiser state continues for parameters with the same name and
    shape; None starts fresh. ``remembered`` is the old network that the new one should agree with.
    """

    network: nn.Module
    losses: WeightedLosses
    preprocessing: Preprocessing
    images: ImageSet
    cache: Embeddings | None
    epochs: int
    settings: TrainSettings
    evaluate: Evaluate | None = None
    sampler: SamplerSettings = SHUFFLE
    optimiser_from: Path | None = None
    remembered: Remembered | None = None
    augment: AugmentSettings = NO_AUGMENTATION
    view_caches: Sequence[Embeddings] = ()
    teacher: Embedder | None = None

    @property
    def answers(self) -> CachedAnswers | OnlineAnswers | None:
        """The source of the teacher's embeddings; None if no loss needs them."""
        if not self.losses.needs_teacher:
            return None
        least_cosine = self.augment.least_cosine
        if self.teacher is not None:
            return OnlineAnswers(self.teacher, least_cosine)
        assert self.cache is not None, "a loss asks for the teacher"
        if self.augment.teacher_sees == "plain":
            return CachedAnswers(self.cache, None)
        return CachedAnswers(self.cache, self.view_caches, least_cosine)

    @property
    def views(self) -> StudentViews | None:
        """The views that the student sees besides the images and their mirror images."""
        if not self.augment.augments:
            return None
        augmentation = Augmentation(self.augment.strengths, self.images)
        return StudentViews(augmentation, ViewChoice(self.augment, self.settings.seed))


def train(training: Training, checkpoints: Path, watch: Watch) -> dict[str, float]:
    """Train to the end from the newest checkpoint; returns the last losses.

    With ``settings.keep`` best, the network ends with the weights of the highest score and the
    result is the losses last logged before that. With ``settings.ema`` it ends with the averages.

    Every rank of the process group must call it; only rank 0 writes checkpoints and metrics. Raises
    ``Stopped`` on all ranks, after saving, if ``watch.stop()`` is true on any; raises ``Diverged``
    with a diagnosis if a loss or a gradient is not finite.
    """
    settings = training.settings
    check_engine(settings)
    check_shares(settings, distributed.world_size())
    keep_freed_memory()
    torch.manual_seed(settings.seed)
    plan = create_plan(training.images, settings, training.sampler, distributed.world_size())
    with BatchLoader(
        training.images,
        training.preprocessing,
        plan,
        training.answers,
        settings.decode_threads,
        Shard(distributed.rank(), distributed.world_size()),
        training.views,
    ) as loader:
        run = _Run(training, loader, checkpoints, watch)
        run.resume()
        while True:
            try:
                run.train_to_end()
                return run.result()
            except Diverged as diverged:
                run.go_back(diverged)


@dataclass
class _LoopState:
    """The loop's own state; ``rate_scale`` and ``retries`` concern divergences."""

    step: int = 0
    rate_scale: float = 1.0
    retries: int = 0
    latest: dict[str, float] = field(default_factory=dict)

    @classmethod
    def at(cls, step: int, saved: Mapping[str, Any]) -> "_LoopState":
        """The state from a checkpoint; raises errors of many kinds for malformed content."""
        rate_scale, latest = float(saved["rate_scale"]), saved["latest"]
        if not 0 < rate_scale <= 1:
            raise ValueError(f"rate_scale is {rate_scale}")
        losses = {str(name): float(loss) for name, loss in latest.items()}
        return cls(step, rate_scale, int(saved["retries"]), losses)


class _Run:
    """A training in progress on this rank."""

    def __init__(
        self, training: Training, loader: BatchLoader, checkpoints: Path, watch: Watch
    ) -> None:
        self.settings, self.loader, self.watch = training.settings, loader, watch
        self.checkpoints, self.divergence = checkpoints, DivergenceCheck(loader.plan, checkpoints)
        self.steps = training.epochs * loader.plan.steps_per_epoch
        self.idle = IdleCheck(self.steps)
        self.network = training.network
        self.scoring = Scoring(training.evaluate, self.settings.evaluate_every, checkpoints, watch)
        learner = create_learner(training)
        self.engine = create_engine(learner, self.settings)
        learner.train()
        ema = self.settings.ema
        self.average = None if ema is None else WeightAverage(self.network, ema)
        self.optimiser_from = training.optimiser_from
        self.position = _LoopState()

    def resume(self) -> None:
        """Load the newest checkpoint, or start from the beginning without one."""
        checkpoint = self._load()
        if checkpoint is not None:
            self._evaluate_if_missed(checkpoint)
            return
        if self.optimiser_from is not None:
            self._restore_optimiser(self.optimiser_from)
        if self.settings.on_divergence is not None:
            self._save()  # a divergence needs a checkpoint to return to

    def _restore_optimiser(self, checkpoints: Path) -> None:
        """Restore the optimiser of the previous training at the weights that it kept."""
        final = None
        if distributed.rank() == 0:
            final = final_checkpoint(checkpoints, self.settings.keep)
        final = distributed.from_first_rank(final)
        with of_this_training(final):
            before = read_state(final)["engine"]
            self.engine.load_optimiser(optimiser_state_that_fits(before, self.engine.shapes))

    def _load(self) -> Path | None:
        """Load and return the newest checkpoint, or None."""
        found = None
        if distributed.rank() == 0:
            found = newest_checkpoint(self.checkpoints, check_state, self._warn_of_damage)
        found = distributed.from_first_rank(found)
        if found is not None:
            self._restore(found)
        return found

    def _warn_of_damage(self, folder: Path, reason: str) -> None:
        text = f"a checkpoint is damaged and was set aside as {folder}: {reason}"
        self.watch.warn(Notice(f"checkpoint {folder.name}", text))

    def _restore(self, checkpoint: Path) -> None:
        with of_this_training(checkpoint):
            state = read_state(checkpoint)
            self.engine.load(state["engine"])
            if self.average is not None:
                self.average.load(state["average"])
            self.position = _LoopState.at(step_of(checkpoint), state["loop"])

    def _evaluate_if_missed(self, checkpoint: Path) -> None:
        """Evaluate now if the training was stopped before the evaluation at this step."""
        step = self.position.step
        scored = distributed.from_first_rank(bool(scores_of(checkpoint)))
        if not scored and self.scoring.is_due(step, self.steps):
            scores = self.scoring.scores(self._weights(), step)
            if scores is None:
                raise Stopped
            self._save(scores)

    def train_to_end(self) -> None:
        """Do all remaining steps."""
        settings, first = self.settings, self.position.step
        meter = Meter(self.loader, self.watch, first, self.steps)
        for step, batch in enumerate(self.loader.batches(first, self.steps), start=first):
            distributed.seed_step(settings.seed, step)
            learning_rate = scheduled_rate(settings, step, self.steps) * self.position.rate_scale
            report = self.engine.step(batch, learning_rate)
            self.divergence.add(step, learning_rate, report)
            self.idle.add(report)
            self.position.step = done = step + 1
            last = done == self.steps
            stop = distributed.any_rank(self.watch.stop()) and not last
            log = done % settings.log_every == 0 or last
            save = done % settings.checkpoint_every == 0 or last or stop
            evaluate = self.scoring.is_due(done, self.steps) and not stop
            if log or save or evaluate or self.engine.device.type == "cpu":
                self.divergence.check()
            if self.average is not None:
                self.average.update(step)
            if log:
                self._log(meter, learning_rate, report)
            scores = self._evaluate(meter) if evaluate else None
            stop = stop or (evaluate and scores is None)
            if save or stop or (scores is not None and self.scoring.are_best(scores)):
                self._save(scores)
            if stop:
                distributed.wait_for_all()  # until the checkpoint is on the disk
                raise Stopped

    def result(self) -> dict[str, float]:
        """Load the weights to keep, and return the last losses before them."""
        if self.settings.keep == "best":
            self._restore_best()
        self.engine.finish()
        if self.average is not None:
            self.network.load_state_dict(self.average.weights)
        return self.position.latest

    def _weights(self) -> Mapping[str, Tensor]:
        """The network weights that this training would keep now."""
        return self.network.state_dict() if self.average is None else self.average.weights

    def _restore_best(self) -> None:
        best = None
        if distributed.rank() == 0:
            best = best_checkpoint(self.checkpoints)
            if best is None:
                raise UserError(
                    'keep = "best", but the network had no accuracy at any evaluation: its '
                    "embeddings are zero or not finite; lower train.learning_rate"
                )
            check_whole(best)
            kept = {"kept_iteration": step_of(best), "kept_score": scores_of(best)[SCORE]}
            self.watch.metrics({"iteration": self.steps, **kept})
        self._restore(distributed.from_first_rank(best))

    def go_back(self, diverged: Diverged) -> None:
        """Return to the last checkpoint with a lower rate, or re-raise if retries are used up."""
        retry = self.settings.on_divergence
        before = self.position
        if retry is None or before.retries >= retry.retries or self._load() is None:
            raise diverged
        self.position.retries = before.retries + 1
        self.position.rate_scale = before.rate_scale * retry.rate_factor
        if distributed.rank() == 0:
            self.watch.metrics(
                {
                    "diverged_at": before.step,
                    "iteration": self.position.step,
                    "rate_scale": self.position.rate_scale,
                }
            )

    def _evaluate(self, meter: Meter) -> dict[str, float] | None:
        """The current scores; None if the training was asked to stop meanwhile."""
        began = time.monotonic()
        scores = self.scoring.scores(self._weights(), self.position.step)
        meter.leave_out(began)
        return scores

    def _log(self, meter: Meter, learning_rate: float, report: StepReport) -> None:
        idle = self.idle.look()
        means = distributed.mean_over_ranks(report.losses)
        self.position.latest = {f"loss_{name}": round(loss, 6) for name, loss in means.items()}
        if distributed.rank() == 0:
            norm = float(report.gradient_norm)
            statistics = loss_statistics(self.engine.learner.losses)
            meter.log(
                self.position.step, learning_rate, norm, {**self.position.latest, **statistics}
            )
            for notice in idle:
                self.watch.warn(notice)

    def _save(self, scores: Scores | None = None) -> None:
        """Save a checkpoint; ranks other than 0 only help to gather the state."""
        position = self.position
        state = {
            "engine": self.engine.state(),
            "loop": {
                "rate_scale": position.rate_scale,
                "retries": position.retries,
                "latest": position.latest,
            },
        }
        if self.average is not None:
            state["average"] = self.average.weights
        if distributed.rank() == 0:
            save_checkpoint(
                self.checkpoints,
                position.step,
                lambda folder: torch.save(state, folder / STATE),
                self.settings.keep_checkpoints,
                scores,
            )


def create_learner(training: Training) -> Learner:
    """The network with its losses, ready for an engine."""
    settings = training.settings
    subsample_narrow_convolutions(training.network)
    learner = Learner(
        training.network,
        training.losses,
        training.preprocessing,
        bf16=settings.precision == "bf16",
        frozen=settings.body_learning_rate == FROZEN,
        remembered=training.remembered,
    )
    if settings.sync_batch_norm and distributed.world_size() > 1:
        synchronise_batch_norm(learner, distributed.device())
    if settings.activation_checkpointing:
        checkpoint_activations(learner.network)
    return learner
