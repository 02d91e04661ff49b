"""UniformFace: Duan et al., 2019. Class weights repel one another and spread evenly."""

from typing import Any

import torch
from torch import Tensor

from distill.losses.loss import Loss, LossInputs, at_least_float32, register
from distill.losses.sampled_classes import SampledClasses
from distill.losses.settings import UniformFaceSettings


@register("uniformface")
class UniformFace(Loss):
    """Class weights that repel one another::

        loss = mean over pairs of classes j != k of  1 / (1 + |w_j - w_k|)

    for class weights of length 1, over the classes sampled in this step. The paper uses running
    means of the embeddings instead. Sub-centres of one identity repel one another like any others.
    Needs no labels; the gradient flows to the class weights only.

    Args:
        identities, embedding: the shape of the class weights.
        classes: the number sampled per step; default 1,024; any number from K up means all.
        weight: multiplies the loss.

    Example:
        >>> loss = UniformFace(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32)).backward()
    """

    settings: UniformFaceSettings

    def __init__(self, *settings: Any, **given: Any) -> None:
        super().__init__(*settings, **given)
        self.draw = SampledClasses(self.settings.classes)  # checkpoints use this name

    def formula(self, inputs: LossInputs) -> Tensor:
        centres = inputs.unit_centres.flatten(0, -2)
        sampled = centres[self.draw(len(centres), centres.device)]
        if len(sampled) == 1:
            return 0.0 * centres.sum()  # There is only one class weight.
        return repulsion(sampled)


def repulsion(unit_vectors: Tensor) -> Tensor:
    """The mean of ``1 / (distance + 1)`` over all pairs of different rows of [n, D]."""
    count = len(unit_vectors)
    vectors = at_least_float32(unit_vectors)
    # On the unit sphere the squared distance is 2 - 2 cos. Its root has no derivative at 0.
    distances = (2.0 - 2.0 * (vectors @ vectors.T)).clamp_min(1e-12).sqrt()
    energies = 1.0 / (distances + 1.0)
    others = ~torch.eye(count, dtype=torch.bool, device=vectors.device)
    return energies.masked_fill(~others, 0.0).sum() / (count * (count - 1))
