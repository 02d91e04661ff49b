"""Checks whether a training can run with its settings, before anything is trained.

The network is tested on the meta device, which allocates no memory; everything else uses the
functions of the training itself, so there is one set of rules.
"""

import torch
from torch import nn

from distill.notices import Notice
from distill.spec_errors import SpecError
from distill.training import distributed
from distill.training.activation_checkpointing import checkpoint_activations
from distill.training.batch_norm import synchronise_batch_norm
from distill.training.config import TrainSettings
from distill.training.shares import images_together
from teachers.preprocessing import InputSizeError

_ONE_VALUE = "more than 1 value per channel"
"""Part of torch's error when batch normalisation has a single value per channel."""
_FEW = 8
"""Minimum number of images for useful statistics in a batch normalisation of single values"""


def check_network(
    network: nn.Module, input_size: tuple[int, int], settings: TrainSettings, ranks: int
) -> list[Notice]:
    """Raise ``SpecError`` or ``InputSizeError`` if ``network``, on meta, cannot be trained.

    Returns notices about settings that will have no effect. Discard the network afterwards.
    """
    together = images_together(settings, ranks)
    notices = []
    if not _takes(network, input_size, images=min(together, 2)):
        raise SpecError(
            ("train", "batch_size"),
            f"{settings.batch_size} images with {_shares(settings, ranks)} let batch normalisation "
            "see 1 image at a time, which has no statistics; allowed: at least 2 images at a time, "
            f"better {_FEW} or more",
        )
    if together == 2 and not _takes(network, input_size, images=1):
        notices.append(
            Notice(
                "batch normalisation of two images",
                f"train.batch_size is {settings.batch_size} with {_shares(settings, ranks)}: batch "
                "normalisation of the last layer sees 2 images at a time and makes each value +1 "
                f"or -1, which lets almost no gradient through; use {_FEW} images or more",
            )
        )
    if settings.activation_checkpointing:
        checkpoint_activations(network)
    if settings.sync_batch_norm and ranks > 1:
        synchronise_batch_norm(network, distributed.device())
    return notices


@torch.no_grad()
def _takes(network: nn.Module, input_size: tuple[int, int], images: int) -> bool:
    """Whether a training step is possible with this number of images."""
    try:
        network.train()(torch.empty(images, 3, *input_size, device="meta"))
    except (ValueError, RuntimeError, AssertionError) as error:
        if _ONE_VALUE in str(error):
            return False
        size = f"{input_size[0]}x{input_size[1]}"
        reason = str(error).strip().split("\n")[0]
        message = f"this network cannot be trained on images of {size}: {reason}"
        raise InputSizeError(message) from None
    return True


def _shares(settings: TrainSettings, ranks: int) -> str:
    return f"ranks = {ranks} and accumulate = {settings.accumulate}"
