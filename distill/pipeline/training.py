"""One training of a job: a stage of the spec with its resolved parts, and its weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from curation.views import ImageSet
from distill.evaluation.set_features import open_sets
from distill.evaluation.set_source import SetSource
from distill.export.safe_tensors import load_weights, read_tensors, write_weights
from distill.losses import LossSettings, WeightedLosses
from distill.network_spec import TeacherSpec
from distill.notices import Notice, keeping, read_notices
from distill.pipeline.architecture import Architecture
from distill.pipeline.beginning import OldNetwork
from distill.pipeline.halving import halved, notice_of
from distill.pipeline.scores import PairAccuracies
from distill.pipeline.steps import StepOutcome, StepStore
from distill.pipeline.teacher_centres import teacher_centres
from distill.run_directory import CHECKPOINTS
from distill.spec import JobSpec
from distill.training import distributed
from distill.training.augment import NO_AUGMENTATION, AugmentSettings
from distill.training.checkpoints import best_checkpoint, scores_of, step_of
from distill.training.config import OptimiserStart, SamplerSettings, TrainSettings
from distill.training.dropout import drop_before_embedding
from distill.training.loop import Training, train
from distill.training.meter import Watch
from distill.training.plan import SHUFFLE
from distill.training.remembering import Remembered
from distill.training.tensorboard import event_files
from teachers.embedder import Embedder, TorchEmbedder
from teachers.embedding_cache import Embeddings
from teachers.framing import crops

NETWORK, LOSSES = "network.safetensors", "losses.safetensors"
INTERVALS = "at-intervals.json"
"""File in a training's folder: the sets that fit the time limit at intervals"""
NOTICES = "warnings.json"
"""File in a training's folder: notices about what had no effect"""
UNSEEN_SETTINGS = {
    "activation_checkpointing",
    "checkpoint_every",
    "decode_threads",
    "keep_checkpoints",
    "log_every",
    "ranks",
    "tensorboard",
}
"""Settings that do not change the weights, so they are not part of a step's identity."""
UNSEEN_UNLESS_BEST = {"evaluate_every", "keep"}
"""Settings that change the weights only if the best are kept."""
SEEN_SETTINGS = {
    "accumulate",
    "batch_size",
    "clip_gradient_norm",
    "engine",
    "final_learning_rate",
    "head_weight_decay",
    "learning_rate",
    "momentum",
    "on_divergence",
    "precision",
    "schedule",
    "seed",
    "shuffle",
    "shuffle_window",
    "sync_batch_norm",
    "warmup",
    "weight_decay",
    "zero_stage",
}
"""Settings that are always part of a step's identity. Settings added later are left out at their
default values, so that earlier steps are still found."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that a step trained: the location of its files and the digest of the step."""

    architecture: Architecture
    folder: Path
    id: str

    def load(self) -> nn.Module:
        """The network with its weights, on the CPU."""
        network = self.architecture.unweighted.build()
        load_weights(self.folder / NETWORK, network)
        return network

    def embedder(self) -> Embedder:
        return TorchEmbedder(self.load(), self.architecture.preprocessing, self.id)


@dataclass(frozen=True)
class Guidance:
    """The teacher's contribution besides the cached embeddings of the plain images.

    ``views`` are the caches of augmented views by number. An ``online`` teacher replaces all caches
    and runs at every step; ``digest`` is that of the cache it would have.
    """

    views: tuple[Embeddings, ...] = ()
    online: Embedder | None = None
    digest: str = ""


@dataclass(frozen=True)
class Stage:
    """One training of one network: a teacher's, or a stage of a student's generation.

    Without ``start``, a student starts from the network ``old``; ``remember`` is the weight of the
    loss that keeps it close to ``old``. The sets ``evaluation`` and ``protocols`` are scored every
    ``settings.evaluate_every`` steps within ``seconds``. ``guidance`` is set if a loss compares
    with the teacher. ``halved`` is the reason why micro-batches were halved, if they were; it is
    not part of the step's identity.
    """

    architecture: Architecture
    losses: dict[str, LossSettings]
    epochs: int
    settings: TrainSettings
    start: TrainedNetwork | None = None
    evaluation: tuple[SetSource, ...] = ()
    sampler: SamplerSettings = SHUFFLE
    optimiser: OptimiserStart = "fresh"
    old: OldNetwork | None = None
    remember: float | None = None
    halved: str | None = None
    dropout: float | None = None
    augment: AugmentSettings = NO_AUGMENTATION
    guidance: Guidance | None = None
    protocols: tuple[str, ...] = ()
    seconds: float | None = None

    def inputs(self, images: ImageSet, cache: Embeddings | None) -> dict[str, Any]:
        """Everything that determines the trained weights, for the step's identity."""
        inputs = {
            "architecture": self.architecture.describe(),
            "losses": {name: loss.seen for name, loss in self.losses.items()},
            "epochs": self.epochs,
            "settings": _seen(self.settings),
            "sampler": self.sampler.model_dump(),
            "start": self.start and self.start.id,
            "images": images.digest,
            "teacher": cache and cache.digest,
        }
        if crops(images.image_size, self.architecture.input_size):
            # Only then, because other networks saw the same pixels before; these saw squeezed ones.
            inputs["cropped"] = True
        if self.old is not None and self.start is None:
            inputs["from"] = self.old.digest
        if self.old is not None and self.remember is not None:
            inputs["remember"] = {"weight": self.remember, "network": self.old.digest}
        if self.optimiser == "kept":
            inputs["optimiser"] = "kept"
        if self.dropout is not None:
            inputs["dropout"] = self.dropout
        if self.augment.augments:
            inputs["augment"] = self._augment_inputs(images)
        if self.guidance is not None and self.guidance.online is not None:
            inputs["teacher"] = {"online": self.guidance.digest}
        if self.settings.keep == "best":
            # Only then, so that earlier steps that kept the last weights are still found.
            best: dict[str, Any] = {
                "evaluate_every": self.settings.evaluate_every,
                "sets": sorted(each.open().digest for each in self.evaluation if each.is_pairs),
            }
            if self.seconds is not None:
                best["seconds"] = self.seconds
            inputs["best"] = best
        return inputs

    def _augment_inputs(self, images: ImageSet) -> dict[str, Any]:
        """The student's views, and the embeddings that decide which of them are used."""
        augment = self.augment
        inputs = {
            "pixels": augment.strengths.digest(images.digest),
            "views": augment.views,
            "plain": augment.plain,
        }
        if self.guidance is None:
            return inputs
        if augment.teacher_sees == "plain":
            return {**inputs, "teacher_sees": "plain"}
        return {**inputs, "least_cosine": augment.least_cosine}

    def train(
        self, images: ImageSet, cache: Embeddings | None, folder: Path, watch: Watch
    ) -> dict[str, float]:
        """Train from the newest checkpoint in ``folder`` to the end and write the weights there.

        Returns the last losses. Every rank calls it; rank 0 writes. See ``train`` for errors.
        """
        training = self.training(images, cache, folder, watch.warn)
        if self.halved is not None:
            training = self._halved(training, self.halved, watch)
        events = self.settings.tensorboard and distributed.rank() == 0
        with event_files(folder / "tensorboard", events, watch) as watching:
            latest = train(training, folder / CHECKPOINTS, watching)
        if distributed.rank() == 0:
            write_weights(folder / NETWORK, training.network)
            write_weights(folder / LOSSES, training.losses)
        return latest

    def _halved(self, training: Training, reason: str, watch: Watch) -> Training:
        half = halved(self.settings, self.sampler, distributed.world_size())
        if distributed.rank() == 0:
            watch.warn(notice_of(self.settings, half, reason))
        return training if half is None else replace(training, settings=half)

    @property
    def beginning(self) -> str | None:
        """Which weights of ``student.from`` it starts with, if it does."""
        if self.start is not None or self.old is None:
            return None
        return self.old.overlap(self.architecture).text

    def training(
        self,
        images: ImageSet,
        cache: Embeddings | None,
        folder: Path | None = None,
        warn: Callable[[Notice], None] = lambda notice: None,
    ) -> Training:
        """Equal on every rank: the seed determines the initial weights.

        ``folder`` stores which sets are scored at intervals within a time limit; ``warn`` reports
        those that are not.
        """
        architecture, settings = self.architecture, self.settings
        torch.manual_seed(settings.seed)
        network = architecture.build()
        counts = np.diff(images.offsets)
        losses = WeightedLosses(
            self.losses,
            architecture.embedding,
            images.identities,
            torch.from_numpy(counts),
            self._teacher_embedding(cache),
        )
        if losses.needs_teacher_centres:
            assert cache is not None, "a job sees to it that there is one"
            losses.teacher_centres = teacher_centres(cache, images)
        if self.dropout is not None:
            drop_before_embedding(network, self.dropout)
        optimiser_from = remembered = None
        if self.old is not None and self.remember is not None:
            remembered = Remembered(self.old.load(), self.remember)
        if self.start is None and self.old is not None:
            self.old.take_into(network)
        if self.start is not None:
            _start_from(self.start.folder, network, losses)
            optimiser_from = self.start.folder / CHECKPOINTS if self.optimiser == "kept" else None
        return Training(
            network=network,
            losses=losses,
            preprocessing=architecture.preprocessing,
            images=images,
            cache=cache,
            epochs=self.epochs,
            settings=settings,
            sampler=self.sampler,
            optimiser_from=optimiser_from,
            remembered=remembered,
            augment=self.augment,
            view_caches=() if self.guidance is None else self.guidance.views,
            teacher=None if self.guidance is None else self.guidance.online,
            # Last: it draws random numbers, which must not affect the initial weights.
            evaluate=self._evaluate(folder, warn),
        )

    def _teacher_embedding(self, cache: Embeddings | None) -> int | None:
        if cache is not None:
            return cache.embedding
        online = None if self.guidance is None else self.guidance.online
        return None if online is None else online.embedding

    def _evaluate(
        self, folder: Path | None, warn: Callable[[Notice], None]
    ) -> PairAccuracies | None:
        """The evaluation at intervals, if the settings ask for it."""
        if self.settings.evaluate_every is None:
            return None
        twin = self.architecture.unweighted.build()
        return PairAccuracies(
            twin,
            self.architecture.preprocessing,
            open_sets(self.evaluation, self.protocols),
            self.seconds,
            None if folder is None else folder / INTERVALS,
            warn,
            compared=self.settings.keep == "best",
        )


def teacher_stage(spec: TeacherSpec) -> Stage:
    """The training of a teacher in this job."""
    assert spec.network is not None
    assert spec.stage is not None
    architecture = Architecture.resolve(spec.network)
    return Stage(architecture, spec.stage.losses, spec.stage.epochs, spec.train)


def student_stage(
    spec: JobSpec,
    index: int,
    seed: int,
    architecture: Architecture,
    start: TrainedNetwork | None,
) -> Stage:
    """One stage of a generation according to the spec, starting from ``start``."""
    assert spec.student is not None
    stage = spec.stage[index]
    return Stage(
        architecture,
        stage.losses,
        stage.epochs,
        stage.settings(spec.train).model_copy(update={"seed": seed}),
        start,
        sampler=stage.sampler,
        optimiser=stage.optimiser,
        augment=spec.augment,
        remember=spec.student.remember,
        dropout=spec.student.dropout,
    )


def train_network(
    kind: str,
    stage: Stage,
    images: ImageSet,
    cache: Embeddings | None,
    steps: StepStore,
    watch: Watch,
    entered: Callable[[Path], None],
) -> tuple[TrainedNetwork, StepOutcome]:
    """Train ``stage`` on all ranks, or reuse it; ``entered`` gets the folder before it starts."""
    inputs = stage.inputs(images, cache)
    folder = steps.folder(kind, inputs)
    entered(folder)
    watch = replace(watch, warn=keeping(folder / NOTICES, watch.warn))

    def work(folder: Path) -> dict[str, Any]:
        latest = stage.train(images, cache, folder, watch)
        result = {"architecture": stage.architecture.describe(), "losses": latest}
        return {**result, **_kept(stage.settings, folder)}

    outcome = steps.perform(kind, inputs, work, distributed.on_first_rank)
    for notice in read_notices(folder / NOTICES):  # including those of an earlier attempt or job
        watch.warn(notice)
    return TrainedNetwork(stage.architecture, outcome.folder, outcome.folder.name), outcome


def _seen(settings: TrainSettings) -> dict[str, Any]:
    """The settings that are part of a step's identity."""
    hidden = UNSEEN_SETTINGS | UNSEEN_UNLESS_BEST
    later = settings.model_dump(exclude=hidden | SEEN_SETTINGS, exclude_defaults=True)
    return {**settings.model_dump(include=SEEN_SETTINGS), **later}


def _kept(settings: TrainSettings, folder: Path) -> dict[str, Any]:
    """Which weights a training in ``folder`` kept, if they may not be the last."""
    best = best_checkpoint(folder / CHECKPOINTS) if settings.keep == "best" else None
    return {} if best is None else {"kept": {"iteration": step_of(best), **scores_of(best)}}


def _start_from(start: Path, network: nn.Module, losses: WeightedLosses) -> None:
    """Load the previous network and class weights, and the state of losses that are unchanged.

    State of a different shape, such as class weights of another width, starts fresh.
    """
    load_weights(start / NETWORK, network)
    before, now = read_tensors(start / LOSSES), losses.state_dict()
    kept = {
        name: value
        for name, value in before.items()
        if name in now and now[name].shape == value.shape
    }
    losses.load_state_dict(kept, strict=False)
