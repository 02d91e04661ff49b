"""The batch plan of a training, chosen by its settings and its data."""

import math
from collections.abc import Iterator

import numpy as np

from curation.views import ImageSet
from distill.spec_errors import SpecError, within
from distill.training.config import SamplerSettings, TrainSettings
from distill.training.pk_shuffle import PKShuffle
from distill.training.several_sets import SeveralSets
from distill.training.shared_plan import SharedShuffle, SharingGroup
from distill.training.shuffles import BatchPlan, FullShuffle, WindowedShuffle

SHUFFLE = SamplerSettings()


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
