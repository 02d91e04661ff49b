"""The intra loss of the Meituan paper, Eq. 7: images near the centres of their identities."""

import torch
from torch import Tensor, nn

from distill.losses.head import angles
from distill.losses.inputs import LossInputs
from distill.losses.registry import LossSettings, register


@register("intra", LossSettings, needs_centres=True)
class Intra(nn.Module):
    """The mean angle, in radians, between embeddings and the centres of their identities."""

    def __init__(self, settings: LossSettings, embedding: int, identities: int) -> None:
        super().__init__()

    def forward(self, inputs: LossInputs) -> Tensor:
        rows = torch.arange(len(inputs.labels), device=inputs.labels.device)
        return angles(inputs.cosines[rows, inputs.labels]).mean()
