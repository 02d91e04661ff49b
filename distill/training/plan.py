"""The images of every training step, and which of them are mirrored.

A plan is a function of the settings, the seed and the epoch only, independent of what was read
before: a resumed training gets the same batch at step k. It is global, for any number of processes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from curation.views import ImageSet
from distill.spec_errors import SpecError, within
from distill.training.config import SamplerSettings, TrainSettings
from distill.training.pk_shuffle import PKShuffle
from distill.training.several_sets import SeveralSets
from distill.training.shared_plan import SharedShuffle, SharingGroup

CHUNK = 64
"""Consecutive images that a windowed shuffle reads at once, about half a megabyte of 112x112 JPEGs:
enough for sequential disk reads, and no more than one identity of MS1M."""
SHUFFLE = SamplerSettings()


class BatchPlan(Protocol):
    """The interface of all ways to choose batches."""

    @property
    def batch_size(self) -> int:
        """Images in a global batch."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only, because batch normalisation needs equal ones."""
        ...

    @property
    def read_ahead(self) -> int:
        """How many images to prefetch at once, in store order. 0: read each image on demand."""
        ...

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The images of all steps in order, and their mirror flags."""
        ...


@dataclass(frozen=True)
class FullShuffle:
    """Every epoch is a permutation of all ``images``: the best mixing, with a seek per image."""

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
    """For disks with slow seeks: runs of ``chunk`` images in random order, shuffled in windows.

    ``rows`` int64 [N] are the images' positions in the store. An epoch cuts the store's order into
    chunks (at different places in every epoch), shuffles the chunks, and shuffles each ``window``
    of the resulting images, so that a window is read in few sequential runs.
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
    """The plan for ``settings`` and ``sampler``.

    Raises ``SpecError`` if not even one batch can be filled or ``ranks`` cannot share it.
    """
    size = settings.batch_size
    if size > len(images):
        raise SpecError(
            ("train", "batch_size"),
            f"{size} is above {len(images)}, the number of images of the data set",
        )
    if sampler.images is not None:
        with within("sampler"):
            sampler.check_shares(size, ranks * settings.accumulate)
        if not images.identities:
            raise SpecError(
                ("sampler", "kind"),
                '"pk" draws identities, and no image of data.train has a usable label; '
                "leave the sampler out",
            )
    shares = images.shares if isinstance(images, SeveralSets) else None
    if shares is None and (sampler.images is None or not images.unlabelled):
        window = settings.shuffle_window
        return _simple_plan(images.rows, images.labels, settings, sampler, size, window)
    parts = [(1.0, np.ones(len(images), bool))]
    if shares is not None and isinstance(images, SeveralSets):
        parts = [(share, images.which == number) for number, share in enumerate(shares)]
    if sampler.images is not None:
        parts = list(_by_labels(images, parts))
    return _shared_plan(images, parts, settings, sampler)


def _by_labels(
    images: ImageSet, parts: list[tuple[float, np.ndarray]]
) -> Iterator[tuple[float, np.ndarray]]:
    """Split each part into labelled and unlabelled images, in proportion to their numbers: only
    labelled images have identities to sample."""
    for share, chosen in parts:
        for half in (chosen & (images.labels >= 0), chosen & (images.labels < 0)):
            if half.any():
                yield share * half.sum() / chosen.sum(), half


def _shared_plan(
    images: ImageSet,
    parts: list[tuple[float, np.ndarray]],
    settings: TrainSettings,
    sampler: SamplerSettings,
) -> SharedShuffle:
    """``parts`` are shares, each with a bool ``[N]`` mask of its images."""
    block = sampler.images or 1
    blocks, shown, groups = settings.batch_size // block, 0, []
    for number, (share, chosen) in enumerate(parts):
        indices = np.flatnonzero(chosen)
        rows, labels = images.rows[indices], images.labels[indices]
        seeded = settings.model_copy(update={"seed": (settings.seed + number) % 2**32})
        drawn = sampler if labels[0] >= 0 else SHUFFLE
        size = math.ceil(share * blocks) * block
        window = max(size, round(settings.shuffle_window * share))
        plan = _simple_plan(rows, labels, seeded, drawn, size, window)
        length = plan.steps_per_epoch * size if isinstance(plan, PKShuffle) else len(indices)
        shown += plan.images if isinstance(plan, PKShuffle) else len(indices)
        groups.append(SharingGroup(indices, plan, share, length))
    windowed = settings.shuffle == "windowed" and block == 1
    return SharedShuffle(
        groups,
        max(shown, settings.batch_size),
        settings.batch_size,
        settings.seed,
        block,
        settings.shuffle_window if windowed else 0,
    )


def _simple_plan(
    rows: np.ndarray,
    labels: np.ndarray,
    settings: TrainSettings,
    sampler: SamplerSettings,
    size: int,
    window: int,
) -> FullShuffle | WindowedShuffle | PKShuffle:
    """Batches of ``size`` images with the given ``rows`` and ``labels``, int ``[n]``."""
    if sampler.images is not None:
        return _pk_shuffle(labels, settings.seed, sampler, size)
    if settings.shuffle == "full":
        return FullShuffle(len(rows), size, settings.seed)
    return WindowedShuffle(rows, size, settings.seed, window)


def _pk_shuffle(labels: np.ndarray, seed: int, sampler: SamplerSettings, size: int) -> PKShuffle:
    each = sampler.images
    assert each is not None
    plan = PKShuffle(labels, size, seed, each, sampler.least_images)
    few = f" of at least {sampler.least_images} images" if sampler.least_images > 1 else ""
    if not plan.identities:
        most = int(np.bincount(labels).max())
        raise SpecError(
            ("sampler", "least_images"),
            f"{sampler.least_images} is above {most}, the images of the largest identity of the "
            "data set",
        )
    if size > plan.identities * each:
        raise SpecError(
            ("train", "batch_size"),
            f"{size:,} images are of {size // each:,} identities with {each} each, but the data "
            f"set has {plan.identities:,} identities{few}; allowed: up to "
            f"{plan.identities * each:,}",
        )
    if not plan.steps_per_epoch:
        raise SpecError(
            ("train", "batch_size"),
            f"{size:,} is above {plan.images:,}, the images of the {plan.identities:,} "
            f"identities{few} that the sampler takes, so that an epoch has no step",
        )
    return plan
