"""Against forgetting: a network that is trained on is held to what it said before.

Source: Li and Hoiem, Learning without Forgetting, 2016, whose second loss compares with the answers
of the old network on the new pictures; here by the angle between the embeddings, as in angular
distillation.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from distill.losses import LossInputs
from distill.losses.angular import Angular

NAME = "remember"


class Remembered:
    """The old network, asked about every batch, and the loss that compares with its answers.

    It is no part of the learner: it does not move, and no checkpoint has it.
    """

    def __init__(self, network: nn.Module, weight: float) -> None:
        self.network = network.eval().to(memory_format=torch.channels_last)
        self.loss, self.weight = Angular(weight=weight), weight

    def embeddings(self, images: Tensor) -> Tensor:
        """Of images [B, 3, H, W] as the learner's network takes them: [B, D]."""
        with torch.no_grad():
            return self.network.to(images.device)(images).float()

    def add(self, losses: dict[str, Tensor], inputs: LossInputs, old: Tensor) -> dict[str, Tensor]:
        """``losses`` with this one, unweighted, and the total with it."""
        part = self.loss(replace(inputs, teacher=old))
        return {**losses, "total": losses["total"] + self.weight * part, NAME: part}
