"""What the steps do: build a network, train it, evaluate it, put it into a bundle."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from curation.pairs import VerificationPairs, read_pairs
from curation.progress import Progress
from curation.views import ImageSet, open_images
from distill.evaluation.evaluate_sets import evaluate
from distill.evaluation.measurable import why_no_accuracy
from distill.export.bundle import export_bundle
from distill.export.config import BundleConfig, FaceConfig, Framing
from distill.export.exporter import DEFAULT_FORMATS
from distill.export.safe_tensors import load_weights
from distill.losses import LossSettings
from distill.notices import keeping, read_notices
from distill.pipeline.architecture import Architecture
from distill.pipeline.steps import StepOutcome, StepStore
from distill.pipeline.training import CHECKPOINTS, NETWORK, TrainingDescription, carry_out
from distill.training.checkpoints import best_checkpoint, scores_of, step_of
from distill.training.config import OptimiserStart, SamplerSettings, TrainSettings
from distill.training.launch import fresh_folder, run_on_ranks
from distill.training.meter import Watch
from distill.training.plan import SHUFFLE
from distill.training.shares import wanted_ranks
from distill.training.tensorboard import event_files
from teachers.embedder import Embedder, TorchEmbedder
from teachers.embedding_cache import EmbeddingCache
from teachers.framing import crops

WORKER = "distill.pipeline.worker"
NOTICES = "warnings.json"
"""In a training's folder: what did nothing in it."""
UNSEEN_SETTINGS = {
    "activation_checkpointing",
    "checkpoint_every",
    "decode_threads",
    "keep_checkpoints",
    "log_every",
    "ranks",
    "tensorboard",
}
"""Settings that do not change the weights, so a step done under others is the same step."""
UNSEEN_UNLESS_BEST = {"evaluate_every", "keep"}
"""They change the weights where the best are kept, and only there."""
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
"""Settings that are always part of a step's identity. Those that came later are left out while they
have their defaults, so that steps done before there were such settings are found."""


@dataclass(frozen=True)
class TrainedNetwork:
    """A network that a step trained, where its files lie, and the digest of that step."""

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
class Stage:
    """One training of one network: a teacher's, or a stage of a student's generation.

    ``evaluation`` are the sets of pairs for ``settings.evaluate_every``.
    """

    architecture: Architecture
    losses: dict[str, LossSettings]
    epochs: int
    settings: TrainSettings
    start: TrainedNetwork | None = None
    evaluation: tuple[Path, ...] = ()
    sampler: SamplerSettings = SHUFFLE
    optimiser: OptimiserStart = "fresh"

    def inputs(self, images: ImageSet, cache: EmbeddingCache | None) -> dict[str, Any]:
        """Everything that the trained weights follow from, for the step's identity."""
        inputs = {
            "architecture": self.architecture.describe(),
            "losses": {name: loss.model_dump() for name, loss in self.losses.items()},
            "epochs": self.epochs,
            "settings": _seen(self.settings),
            "sampler": self.sampler.model_dump(),
            "start": self.start and self.start.id,
            "images": images.digest,
            "teacher": cache and cache.digest,
        }
        if crops(images.image_size, self.architecture.input_size):
            # Only then, as only these were trained on other pixels before: squeezed ones.
            inputs["cropped"] = True
        if self.optimiser == "kept":
            inputs["optimiser"] = "kept"
        if self.settings.keep == "best":
            # Only then, so that steps done with the last weights kept are found as before.
            inputs["best"] = {
                "evaluate_every": self.settings.evaluate_every,
                "sets": sorted(read_pairs(path).digest for path in self.evaluation),
            }
        return inputs

    def description(
        self, images: ImageSet, cache: EmbeddingCache | None, folder: Path
    ) -> TrainingDescription:
        """This training in words, for the process that carries it out in ``folder``."""
        return TrainingDescription(
            backbone=self.architecture.backbone,
            embedding=self.architecture.embedding,
            width=self.architecture.width,
            preprocessing=self.architecture.preprocessing,
            losses=self.losses,
            epochs=self.epochs,
            settings=self.settings,
            sampler=self.sampler,
            images=images.path,
            cache=None if cache is None else cache.folder.absolute(),
            start=None if self.start is None else self.start.folder.absolute(),
            optimiser=self.optimiser,
            folder=folder,
            evaluation=[path.absolute() for path in self.evaluation],
        )


def train_network(
    kind: str,
    stage: Stage,
    images: ImageSet,
    cache: EmbeddingCache | None,
    steps: StepStore,
    watch: Watch,
    entered: Callable[[Path], None],
) -> tuple[TrainedNetwork, StepOutcome]:
    """Train ``stage``, or find it trained; ``entered`` is told the folder beforehand."""
    inputs = stage.inputs(images, cache)

    def work(folder: Path) -> dict[str, Any]:
        latest = _train(stage.description(images, cache, folder.absolute()), images, cache, watch)
        result = {"architecture": stage.architecture.describe(), "losses": latest}
        return {**result, **_kept(stage.settings, folder)}

    folder = steps.folder(kind, inputs)
    entered(folder)
    watch = replace(watch, warn=keeping(folder / NOTICES, watch.warn))
    outcome = steps.perform(kind, inputs, work)
    for notice in read_notices(folder / NOTICES):  # also of an earlier attempt or another job
        watch.warn(notice)
    return TrainedNetwork(stage.architecture, outcome.folder, outcome.folder.name), outcome


def _seen(settings: TrainSettings) -> dict[str, Any]:
    """The settings that a step's identity has."""
    hidden = UNSEEN_SETTINGS | UNSEEN_UNLESS_BEST
    later = settings.model_dump(exclude=hidden | SEEN_SETTINGS, exclude_defaults=True)
    return {**settings.model_dump(include=SEEN_SETTINGS), **later}


def _kept(settings: TrainSettings, folder: Path) -> dict[str, Any]:
    """Which weights a training in ``folder`` left, where they need not be the last."""
    best = best_checkpoint(folder / CHECKPOINTS) if settings.keep == "best" else None
    return {} if best is None else {"kept": {"iteration": step_of(best), **scores_of(best)}}


def _train(
    description: TrainingDescription, images: ImageSet, cache: EmbeddingCache | None, watch: Watch
) -> dict[str, float]:
    """In this process, or on as many ranks as the settings ask for; the last losses."""
    settings = description.settings
    ranks = wanted_ranks(settings)
    with event_files(description.folder / "tensorboard", settings.tensorboard, watch) as watching:
        if ranks == 1:
            return carry_out(description, images, cache, watching)
        folder = fresh_folder(description.folder / "ranks")
        text = folder / "description.json"
        text.write_text(description.model_dump_json(indent=2))
        return run_on_ranks(ranks, WORKER, [str(text)], folder, watching)


def evaluate_network(
    embedder: Embedder, sets: dict[str, Path], steps: StepStore, progress: Progress
) -> StepOutcome:
    """The scores of ``embedder`` on the named sets of pairs or images."""
    opened = [read_pairs(path) if path.is_file() else open_images(path) for path in sets.values()]
    inputs = {
        "network": embedder.digest,
        "preprocessing": embedder.preprocessing.digest,
        "sets": {each.name: each.digest for each in opened},
        **_unmeasured(opened),
        **_cropped(embedder, opened),
    }
    return steps.perform("evaluate", inputs, lambda folder: evaluate(embedder, opened, progress))


def _cropped(
    embedder: Embedder, sets: Sequence[VerificationPairs | ImageSet]
) -> dict[str, list[str]]:
    """The sets of which the network sees less than the whole images, which were squeezed before."""
    size = embedder.preprocessing.size
    cropped = [each.name for each in sets if crops(each.image_size, size)]
    return {"cropped": cropped} if cropped else {}


def _unmeasured(sets: Sequence[VerificationPairs | ImageSet]) -> dict[str, Any]:
    """What these sets cannot measure, for the step's identity: there were scores of them before.

    Nothing where all of them can, so that steps done before are found.
    """
    pairs = [each for each in sets if isinstance(each, VerificationPairs)]
    reasons = {each.name: why_no_accuracy(each) for each in pairs}
    unmeasured = {name: reason for name, reason in reasons.items() if reason is not None}
    return {"no_accuracy": unmeasured} if unmeasured else {}


def export_network(
    name: str,
    trained: TrainedNetwork,
    image_size: tuple[int, int],
    evaluation: dict[str, Any],
    lineage: dict[str, Any],
    formats: Sequence[str],
    steps: StepStore,
) -> StepOutcome:
    """The bundle of a network trained on images of that size, in ``bundle/`` of the step."""
    architecture = trained.architecture.unweighted
    preprocessing = architecture.preprocessing
    config = BundleConfig(
        architecture=architecture.backbone,
        num_features=architecture.embedding,
        width=architecture.width,
        face=FaceConfig(
            preprocessing=preprocessing, framing=Framing.of(image_size, preprocessing.size)
        ),
    )
    inputs = {"name": name, "network": trained.id, "evaluation": evaluation, "lineage": lineage}
    if tuple(formats) != DEFAULT_FORMATS:
        # Only then, so that steps done before there were formats are found.
        inputs["formats"] = list(formats)

    def work(folder: Path) -> dict[str, Any]:
        bundle = folder / "bundle"
        export_bundle(bundle, trained.load(), config, evaluation, lineage, name, formats)
        return {"files": {path.name: path.stat().st_size for path in sorted(bundle.iterdir())}}

    return steps.perform("export", inputs, work)
