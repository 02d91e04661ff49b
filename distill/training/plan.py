"""Which images, and which of them mirrored, for every step of a training.

A plan follows from the settings, the seed and the epoch alone, never from what was read before: a
training that was stopped asks for step k again and gets the same batch. It is global, whatever the
number of processes.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from curation.views import ImageSet
from distill.spec_errors import SpecError, within
from distill.training.config import SamplerSettings, TrainSettings
from distill.training.pk_shuffle import PKShuffle

CHUNK = 64
"""Images in a row that a windowed shuffle reads at once, about half a megabyte of 112x112 JPEGs:
long enough for a disk's head, and no longer than an identity of MS1M."""
SHUFFLE = SamplerSettings()


class BatchPlan(Protocol):
    """What every way to choose batches has in common."""

    @property
    def batch_size(self) -> int:
        """Images in a global batch."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only: batch normalisation wants them equal."""
        ...

    @property
    def read_ahead(self) -> int:
        """Images of the order to fetch at once, in the order of the store, before they are needed.

        0: every image is read when its turn comes.
        """
        ...

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The images of all steps in order, and the mirror flags aligned with them."""
        ...


@dataclass(frozen=True)
class FullShuffle:
    """Every epoch a permutation of all ``images``: the best mixing, and a seek for every image."""

    images: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return self.images // self.batch_size

    @property
    def read_ahead(self) -> int:
        return 0

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([self.seed, epoch])
        return random.permutation(self.images), random.random(self.images) < 0.5


@dataclass(frozen=True, eq=False)
class WindowedShuffle:
    """For disks that cannot seek: runs of ``chunk`` images in random order, shuffled in windows.

    ``rows`` int64 [N] says where each image lies in the store. An epoch cuts the store's order into
    chunks (elsewhere in every epoch), puts the chunks in random order, and shuffles each ``window``
    images of what comes out, so that a window is read in few sequential runs.
    """

    rows: np.ndarray
    batch_size: int
    seed: int
    window: int
    chunk: int = CHUNK

    @property
    def steps_per_epoch(self) -> int:
        return len(self.rows) // self.batch_size

    @property
    def read_ahead(self) -> int:
        return self.window

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([self.seed, epoch])
        first_cut = random.integers(1, self.chunk + 1)
        cuts = np.arange(first_cut, len(self.rows), self.chunk)
        chunks = np.split(np.argsort(self.rows, kind="stable"), cuts)
        order = np.concatenate([chunks[k] for k in random.permutation(len(chunks))])
        for begin in range(0, len(order), self.window):
            random.shuffle(order[begin : begin + self.window])
        return order, random.random(len(order)) < 0.5


def create_plan(
    images: ImageSet, settings: TrainSettings, sampler: SamplerSettings = SHUFFLE, ranks: int = 1
) -> BatchPlan:
    """The plan that ``settings`` and ``sampler`` ask for.

    Raises ``SpecError`` where not even one batch can be filled, or ``ranks`` cannot share it.
    """
    if settings.batch_size > len(images):
        raise SpecError(
            ("train", "batch_size"),
            f"{settings.batch_size} is above {len(images)}, the number of images of the data set",
        )
    if sampler.images is not None:
        return _pk_shuffle(images, settings, sampler, ranks)
    if settings.shuffle == "full":
        return FullShuffle(len(images), settings.batch_size, settings.seed)
    return WindowedShuffle(images.rows, settings.batch_size, settings.seed, settings.shuffle_window)


def _pk_shuffle(
    images: ImageSet, settings: TrainSettings, sampler: SamplerSettings, ranks: int
) -> PKShuffle:
    size, each = settings.batch_size, sampler.images
    assert each is not None
    with within("sampler"):
        sampler.check_shares(size, ranks * settings.accumulate)
    plan = PKShuffle(images.labels, size, settings.seed, each, sampler.least_images)
    few = f" of at least {sampler.least_images} images" if sampler.least_images > 1 else ""
    if not plan.identities:
        most = int(np.bincount(images.labels).max())
        raise SpecError(
            ("sampler", "least_images"),
            f"{sampler.least_images} is above {most}, the images of the largest identity of the "
            "data set",
        )
    if size > plan.identities * each:
        raise SpecError(
            ("train", "batch_size"),
            f"{size} images are of {size // each} identities with {each} each, but the data set "
            f"has {plan.identities} identities{few}; allowed: up to {plan.identities * each}",
        )
    if not plan.steps_per_epoch:
        raise SpecError(
            ("train", "batch_size"),
            f"{size} is above {plan.images}, the images of the {plan.identities} identities{few} "
            "that the sampler takes, so that an epoch has no step",
        )
    return plan
