"""How the ranks of a training share images and identities, known in advance and without torch."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import pairwise

import numpy as np

from curation.views import ImageSet
from distill.gpu_driver import has_gpu_driver
from distill.launcher import launched_ranks
from distill.losses.needs import Supply
from distill.resources import UNSPECIFIED, Resources
from distill.spec_errors import Location, SpecError, in_words, within
from distill.training.config import SamplerSettings, TrainSettings
from distill.training.plan import create_plan
from distill.training.several_sets import labelled_share

MOST_RANKS = 8
"""Limit on a machine with fewer cores and no GPU, where more ranks only use memory."""


def gpu_count() -> int:
    """The number of GPUs according to torch, which is imported only if a driver is present."""
    if not has_gpu_driver():
        return 0
    import torch

    return torch.cuda.device_count()


def job_ranks(
    trainings: Mapping[Location, TrainSettings], resources: Resources = UNSPECIFIED
) -> int:
    """The number of ranks of a job with these trainings, by their tables in the spec.

    In this order: the ranks that a launcher started; one per GPU of ``resources``; ``ranks`` of the
    trainings; one per node if there are several; the number of GPUs; 1. Raises ``UserError`` if
    the numbers conflict.
    """
    if (launched := launched_ranks()) is not None:
        return launched
    given = {key: each.ranks for key, each in trainings.items() if each.ranks}
    if len(set(given.values())) > 1:
        both = " and ".join(f"{in_words(key)}.ranks is {ranks}" for key, ranks in given.items())
        message = f"{both}; every rank runs the whole job: give both the same value, or one alone"
        raise SpecError((*max(given), "ranks"), message)
    if resources.ranks is not None:
        return resources.ranks
    if resources.nodes > 1:
        return _ranks_on(resources.nodes, given)
    gpus = gpu_count() if resources.gpus is None else 0
    cores = os.cpu_count() or 1
    most, available = (gpus, f"{gpus} GPUs") if gpus else (max(MOST_RANKS, cores), f"{cores} cores")
    for key, ranks in given.items():
        if ranks > most:
            raise SpecError(
                (*key, "ranks"),
                f"{ranks} is above {most}, the most on a machine of {available}; with several "
                f"machines, torchrun sets the number (docs/training.md)",
            )
        return ranks
    return max(1, gpus)


def _ranks_on(nodes: int, given: Mapping[Location, int]) -> int:
    """An equal number on each of several nodes, which are not this machine."""
    for key, ranks in given.items():
        if ranks % nodes:
            raise SpecError(
                (*key, "ranks"),
                f"{ranks} is not a multiple of resources.nodes = {nodes}; each node has the same "
                f"number",
            )
        return ranks
    return nodes


def check_shares(settings: TrainSettings, ranks: int) -> None:
    """Raise ``SpecError`` if a batch cannot be split into equal micro-batches for ``ranks``."""
    with within("train"):
        settings.check_shares(ranks)


def check_engine(settings: TrainSettings) -> None:
    """Raise ``UserError`` if the engine ``settings.engine`` is not installed."""
    if settings.engine == "deepspeed" and find_spec("deepspeed") is None:
        raise SpecError(
            ("train", "engine"),
            '"deepspeed" is not installed (it runs on Linux only); use engine = "torch"',
        )


def images_together(settings: TrainSettings, ranks: int) -> int:
    """The number of images over which batch normalisation computes its statistics."""
    pooled = settings.batch_size // settings.accumulate
    return pooled if settings.sync_batch_norm else pooled // ranks


def suits_any_network(settings: TrainSettings, ranks: int) -> bool:
    """Whether these settings can train every network of the catalogue that can be built."""
    return images_together(settings, ranks) > 2 and not settings.activation_checkpointing


def supply(
    images: ImageSet, settings: TrainSettings, sampler: SamplerSettings, ranks: int
) -> Supply:
    """What each step supplies to the losses; ``UserError`` if the data do not fill one batch."""
    create_plan(images, settings, sampler, ranks)
    pooled = settings.batch_size // settings.accumulate
    counts = np.diff(images.offsets)
    counts = counts[counts >= sampler.least_images]
    own, labelled = pooled // ranks, pooled * labelled_share(images)
    if sampler.images is None:
        total = counts.sum()
        share = (counts * (counts - 1.0)).sum() / max(1, total * (total - 1))
        return Supply(own, pooled, len(counts), float(max(0.0, labelled - 1) * share))
    others = np.minimum(counts, sampler.images) - 1
    return Supply(own, pooled, len(counts), float(others.mean()), round(labelled) // sampler.images)


def shares_of(identities: int, ranks: int) -> list[slice]:
    """The identities of each rank; their numbers differ by at most one.

    Raises ``UserError`` if a rank would have none.
    """
    if identities < ranks:
        raise SpecError(
            ("train", "centres", "sharded"),
            f"the data set has {identities:,} identities for {ranks} ranks; "
            f"allowed: up to {identities} ranks, or sharded = false",
        )
    ends = [identities * rank // ranks for rank in range(ranks + 1)]
    return [slice(*pair) for pair in pairwise(ends)]
