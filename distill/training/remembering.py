"""Against forgetting: continued training keeps a network close to its earlier embeddings.

Source: Li and Hoiem, Learning without Forgetting, 2016, whose second loss compares with the outputs
of the old network on the new images; here by the angle between embeddings, as in angular
distillation.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from distill.losses import LossInputs
from distill.losses.angular import Angular

NAME = "remember"


class Remembered:
    """The old network, which embeds every batch, and the loss that compares with its embeddings.

    It is not part of the learner: it does not change and is not saved in checkpoints.
    """

    def __init__(self, network: nn.Module, weight: float) -> None:
        self.network = network.eval().to(memory_format=torch.channels_last)
        self.loss, self.weight = Angular(weight=weight), weight

    def embeddings(self, images: Tensor) -> Tensor:
        """[B, D] of images [B, 3, H, W] in the input format of the learner's network."""
        with torch.no_grad():
            return self.network.to(images.device)(images).float()

    def add(self, losses: dict[str, Tensor], inputs: LossInputs, old: Tensor) -> dict[str, Tensor]:
        """``losses`` with this loss added, unweighted, and the total including it."""
        part = self.loss(replace(inputs, teacher=old))
        return {**losses, "total": losses["total"] + self.weight * part, NAME: part}
