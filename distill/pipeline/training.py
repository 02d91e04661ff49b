"""A training in words, so that the job itself or each of several ranks can carry it out."""

from pathlib import Path

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from curation.pairs import read_pairs
from curation.views import ImageSet, open_images
from distill.backbones import create
from distill.backbones.timm_models import without_pretrained_weights
from distill.export.safe_tensors import load_weights, read_tensors, write_weights
from distill.losses import WeightedLosses
from distill.losses.settings import Losses
from distill.pipeline.scores import PairAccuracies
from distill.pipeline.teacher_centres import teacher_centres
from distill.training import distributed
from distill.training.config import OptimiserStart, SamplerSettings, Strict, TrainSettings
from distill.training.loop import Training, train
from distill.training.meter import Watch
from distill.training.plan import SHUFFLE
from teachers.embedding_cache import EmbeddingCache
from teachers.preprocessing import Preprocessing

NETWORK, LOSSES = "network.safetensors", "losses.safetensors"
CHECKPOINTS = "checkpoints"


class TrainingDescription(Strict):
    """All that the trained weights follow from, and the folder that they go to.

    ``start`` is the folder of the training before, whose weights are taken, and with ``optimiser``
    kept also the optimiser's state; ``evaluation`` are the sets of pairs for
    ``settings.evaluate_every``. Its JSON is what ranks are given.
    """

    backbone: str
    embedding: PositiveInt
    width: PositiveFloat
    preprocessing: Preprocessing
    losses: Losses
    epochs: PositiveInt
    settings: TrainSettings
    sampler: SamplerSettings = SHUFFLE
    images: Path
    cache: Path | None
    start: Path | None
    optimiser: OptimiserStart = "fresh"
    folder: Path
    evaluation: list[Path] = Field(default=[])

    def open(self) -> tuple[ImageSet, EmbeddingCache | None]:
        """The images and what the teacher said of them, in a process that has not got them."""
        cache = None if self.cache is None else EmbeddingCache(self.cache)
        return open_images(self.images), cache

    def build(self, images: ImageSet, cache: EmbeddingCache | None) -> Training:
        """The same training in every process: the starting weights follow from the seed."""
        torch.manual_seed(self.settings.seed)
        network = create(self.backbone, self.embedding, self.preprocessing.size, self.width)
        counts = np.bincount(images.labels, minlength=images.identities)
        losses = WeightedLosses(
            self.losses,
            self.embedding,
            images.identities,
            torch.from_numpy(counts),
            None if cache is None else cache.embedding,
        )
        if losses.needs_teacher_centres:
            assert cache is not None, "a job sees to it that there is one"
            losses.teacher_centres = teacher_centres(cache, images)
        optimiser_from = None
        if self.start is not None:
            _start_from(self.start, network, losses)
            optimiser_from = self.start / CHECKPOINTS if self.optimiser == "kept" else None
        return Training(
            network=network,
            losses=losses,
            preprocessing=self.preprocessing,
            images=images,
            cache=cache,
            epochs=self.epochs,
            settings=self.settings,
            sampler=self.sampler,
            optimiser_from=optimiser_from,
            # Last: it draws random numbers, which the starting weights must not depend on.
            evaluate=self._evaluate(),
        )

    def _evaluate(self) -> PairAccuracies | None:
        """What rank 0 needs where the settings ask for evaluation at intervals."""
        if self.settings.evaluate_every is None or distributed.rank() != 0:
            return None
        backbone = without_pretrained_weights(self.backbone)
        twin = create(backbone, self.embedding, self.preprocessing.size, self.width)
        sets = [read_pairs(path) for path in self.evaluation]
        return PairAccuracies(twin, self.preprocessing, sets)


def carry_out(
    description: TrainingDescription, images: ImageSet, cache: EmbeddingCache | None, watch: Watch
) -> dict[str, float]:
    """Train from the newest checkpoint to the end, write the weights; the last losses.

    Every rank calls it, and the first writes. Errors as of ``train``.
    """
    training = description.build(images, cache)
    latest = train(training, description.folder / CHECKPOINTS, watch)
    if distributed.rank() == 0:
        write_weights(description.folder / NETWORK, training.network)
        write_weights(description.folder / LOSSES, training.losses)
    return latest


def _start_from(start: Path, network: nn.Module, losses: WeightedLosses) -> None:
    """Take the weights before, the class centres, and the state of those losses that are the same.

    A state of another shape, as of centres of another embedding length, starts afresh.
    """
    load_weights(start / NETWORK, network)
    before, now = read_tensors(start / LOSSES), losses.state_dict()
    kept = {
        name: value
        for name, value in before.items()
        if name in now and now[name].shape == value.shape
    }
    losses.load_state_dict(kept, strict=False)
