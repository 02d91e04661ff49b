"""UniformFace: Duan et al., 2019. Class centres that repel one another, spread evenly."""

import torch
from torch import Tensor, nn

from distill.losses.drawn_classes import DrawnClasses
from distill.losses.inputs import LossInputs, at_least_float32
from distill.losses.registry import register
from distill.losses.settings import UniformFaceSettings


@register("uniformface")
class UniformFace(nn.Module):
    """The mean of ``1 / (distance + 1)`` over pairs of the drawn classes' unit centres.

    The paper takes running means of the embeddings for centres; here they are the heads', on the
    unit sphere. With sub-centres, those of one identity repel one another like any others.
    """

    def __init__(self, settings: UniformFaceSettings, embedding: int, identities: int) -> None:
        super().__init__()
        self.draw = DrawnClasses(settings.classes)

    def forward(self, inputs: LossInputs) -> Tensor:
        centres = inputs.unit_centres.flatten(0, -2)
        drawn = centres[self.draw(len(centres), centres.device)]
        if len(drawn) == 1:
            return 0.0 * centres.sum()  # A centre alone is repelled by none.
        with torch.autocast(drawn.device.type, enabled=False):
            return repulsion(drawn)


def repulsion(unit_vectors: Tensor) -> Tensor:
    """The mean of ``1 / (distance + 1)`` over all pairs of different rows of [n, D]."""
    count = len(unit_vectors)
    vectors = at_least_float32(unit_vectors)
    # On the unit sphere the squared distance is 2 - 2 cos; its root has no derivative at 0.
    distances = (2.0 - 2.0 * (vectors @ vectors.T)).clamp_min(1e-12).sqrt()
    energies = 1.0 / (distances + 1.0)
    others = ~torch.eye(count, dtype=torch.bool, device=vectors.device)
    return energies.masked_fill(~others, 0.0).sum() / (count * (count - 1))
