"""Whether a training can run as its settings ask, found before anything is trained.

A network is asked on the meta device, where nothing has values and nothing costs memory, and the
rest by the functions that the training itself calls: there is one set of rules.
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
"""How torch says that batch normalisation has nothing to normalise."""
_FEW = 8
"""Images from which the statistics of a batch normalisation of single values are of some use."""


def check_network(
    network: nn.Module, input_size: tuple[int, int], settings: TrainSettings, ranks: int
) -> list[Notice]:
    """Raise ``SpecError`` or ``InputSizeError`` where ``network``, on meta, cannot be trained so.

    What comes back will do nothing. The network is of no use afterwards.
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
    """Whether a step of training can be done with so few images."""
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
