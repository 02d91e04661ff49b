"""Whether a training can run as its settings ask, found before anything is trained.

A network is asked on the meta device, where nothing has values and nothing costs memory, and the
rest by the functions that the training itself calls: there is one set of rules.
"""

import numpy as np
import torch
from torch import nn

from curation.errors import UserError
from curation.views import ImageSet
from distill.losses.needs import Supply
from distill.notices import Notice
from distill.training import distributed
from distill.training.activation_checkpointing import checkpoint_activations
from distill.training.batch_norm import synchronise_batch_norm
from distill.training.config import SamplerSettings, TrainSettings
from distill.training.engines import check_engine
from distill.training.plan import create_plan

_ONE_VALUE = "more than 1 value per channel"
"""How torch says that batch normalisation has nothing to normalise."""
_FEW = 8
"""Images from which the statistics of a batch normalisation of single values are of some use."""


def check_network(
    network: nn.Module, input_size: tuple[int, int], settings: TrainSettings
) -> list[Notice]:
    """Raise ``UserError`` where ``network``, which is on the meta device, cannot be trained so.

    What comes back will do nothing. The network is of no use afterwards.
    """
    ranks = distributed.wanted_ranks(settings)
    check_engine(settings)
    piece = settings.batch_size // (ranks * settings.accumulate)
    together = piece * ranks if settings.sync_batch_norm else piece
    notices = []
    if not _takes(network, input_size, images=min(together, 2)):
        raise UserError(
            f"train.batch_size is {settings.batch_size} with {_pieces(settings, ranks)}, so that "
            "batch normalisation sees 1 image at a time, which has no statistics; allowed: at "
            f"least 2 images at a time, better {_FEW} or more"
        )
    if together == 2 and not _takes(network, input_size, images=1):
        notices.append(
            Notice(
                "batch normalisation of two images",
                f"train.batch_size is {settings.batch_size} with {_pieces(settings, ranks)}: batch "
                "normalisation of the last layer sees 2 images at a time and makes each value +1 "
                f"or -1, which lets nearly no gradient through; take {_FEW} images or more",
            )
        )
    if settings.activation_checkpointing:
        checkpoint_activations(network)
    if settings.sync_batch_norm and ranks > 1:
        synchronise_batch_norm(network, distributed.device())
    return notices


def supply(
    images: ImageSet, settings: TrainSettings, sampler: SamplerSettings, ranks: int
) -> Supply:
    """What each step gives the losses; ``UserError`` where there is no whole batch."""
    create_plan(images, settings, sampler, ranks)
    pooled = settings.batch_size // settings.accumulate
    counts = np.diff(images.offsets)
    counts = counts[counts >= sampler.least_images]
    own = pooled // ranks
    if sampler.images is None:
        total = counts.sum()
        share = (counts * (counts - 1.0)).sum() / max(1, total * (total - 1))
        return Supply(own, pooled, len(counts), float((pooled - 1) * share))
    others = np.minimum(counts, sampler.images) - 1
    return Supply(own, pooled, len(counts), float(others.mean()), pooled // sampler.images)


@torch.no_grad()
def _takes(network: nn.Module, input_size: tuple[int, int], images: int) -> bool:
    """Whether a step of training can be done with so few images."""
    try:
        network.train()(torch.empty(images, 3, *input_size, device="meta"))
    except (ValueError, RuntimeError, AssertionError) as error:
        if _ONE_VALUE in str(error):
            return False
        size = f"{input_size[0]}x{input_size[1]}"
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"this network cannot be trained on images of {size}: {reason}") from None
    return True


def _pieces(settings: TrainSettings, ranks: int) -> str:
    return f"ranks = {ranks} and accumulate = {settings.accumulate}"
