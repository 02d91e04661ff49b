"""CurricularFace: Huang et al., 2020. Hard identities count more as training goes on."""

import torch
from torch import Tensor

from distill.losses.arcface import ArcFace
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import CurricularFaceSettings


@register("curricularface")
class CurricularFace(ArcFace):
    """ArcFace, and ``cos * (t + cos)`` for the identities that are mistaken for the true one.

    Those are the identities whose cosine is above the true identity's with its margin. ``t`` is
    the moving average of the true cosines, on all ranks, and is kept with the weights: near 0 in
    the beginning, which makes hard identities count less, and more as the network learns.
    """

    settings: CurricularFaceSettings
    t: Tensor

    def __init__(self, settings: CurricularFaceSettings, embedding: int, identities: int) -> None:
        super().__init__(settings, embedding, identities)
        self.register_buffer("t", torch.tensor(0.0))

    def target_logits(self, true: Tensor, inputs: LossInputs) -> Tensor:
        if self.training:
            everywhere = inputs.of_all_ranks(true.detach().float())
            self.t.lerp_(everywhere.mean(), self.settings.momentum)
        return super().target_logits(true, inputs)

    def non_target_logits(self, cosines: Tensor, with_margin: Tensor) -> Tensor:
        return torch.where(cosines > with_margin[:, None], cosines * (self.t + cosines), cosines)
