"""CurricularFace: Huang et al., 2020. Hard negatives gain weight as training progresses."""

from typing import Any

import torch
from torch import Tensor

from distill.losses.arcface import ArcFace
from distill.losses.loss import LossInputs, register
from distill.losses.settings import CurricularFaceSettings


@register("curricularface")
class CurricularFace(ArcFace):
    """ArcFace with a curriculum for hard negatives.

    The formula of ``ArcFace`` with, where cos a_k > t = cos(a_y + m)::

        n_k = cos a_k (c + cos a_k)    c = (1 - momentum) c + momentum mean(cos a_y)

    c is a moving average over the images of all ranks. It is saved with the weights and updated in
    training mode only. It starts at 0, where hard negatives count less, and grows as the network
    learns.

    Args:
        identities, embedding: the shape of the class weights.
        margin: m in radians; default 0.5.
        momentum: the weight of a batch in c; default 0.01.
        scale: s; default 64.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; default none.
        weight: multiplies the loss.

    Example:
        >>> loss = CurricularFace(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """

    settings: CurricularFaceSettings
    t: Tensor

    def __init__(self, *settings: Any, **given: Any) -> None:
        super().__init__(*settings, **given)
        self.register_buffer("t", torch.tensor(0.0))

    def target_logits(self, cosines: Tensor, inputs: LossInputs) -> Tensor:
        if self.training:
            everywhere = inputs.all_labelled(cosines.detach().float())
            if len(everywhere):
                self.t.lerp_(everywhere.mean().to(self.t), self.settings.momentum)
        return super().target_logits(cosines, inputs)

    def non_target_logits(self, cosines: Tensor, target: Tensor) -> Tensor:
        return torch.where(cosines > target[:, None], cosines * (self.t + cosines), cosines)
