"""CurricularFace: Huang et al., 2020. Hard identities count more as training goes on."""

from typing import Any

import torch
from torch import Tensor

from distill.losses.arcface import ArcFace
from distill.losses.loss import LossInputs, register
from distill.losses.settings import CurricularFaceSettings


@register("curricularface")
class CurricularFace(ArcFace):
    """ArcFace, and a curriculum for the identities that are mistaken for the image's own.

    The formula of ``ArcFace`` with, where cos a_k > t = cos(a_y + m)::

        n_k = cos a_k (c + cos a_k)    c = (1 - momentum) c + momentum mean(cos a_y)

    c is a moving average, over the images of all ranks, that is kept with the weights and moves
    only in training: near 0 in the beginning, where hard identities count less, and larger as the
    network learns.

    Args:
        identities, embedding: the shape of the class weights.
        margin: m in radians, 0.5 unless given.
        momentum: by how much a batch moves c, 0.01 unless given.
        scale: s, 64 unless given.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; none unless given.
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
