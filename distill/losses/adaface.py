"""AdaFace: Kim et al., 2022. Margins that follow the quality of the image."""

import math

import torch
from torch import Tensor

from distill.losses.head import MarginHead, angles
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import AdaFaceSettings

SMALLEST, LONGEST = 1e-3, 100.0
"""Norms are taken within these; the first is also what angles keep from 0 and pi."""


@register("adaface")
class AdaFace(MarginHead):
    """``cos(angle - margin * q) - margin * (1 + q)`` for the true identity.

    q in [-1, 1] is the quality of the image, from the length of its raw embedding in comparison
    with those of the batches before: high quality pulls from far away, low quality near by. No
    gradient goes through q. The lengths of all ranks count, and are kept with the weights.
    """

    settings: AdaFaceSettings
    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: AdaFaceSettings, embedding: int, identities: int) -> None:
        super().__init__(settings, embedding, identities)
        # As in the authors' code; the margins widen as the deviation comes down to that of norms.
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("deviation", torch.tensor(100.0))

    def target_logits(self, true: Tensor, inputs: LossInputs) -> Tensor:
        norms = inputs.embeddings.detach().float().norm(dim=1).clamp(SMALLEST, LONGEST)
        if self.training:
            self._follow(inputs.of_all_ranks(norms))
        quality = (norms - self.mean) / (self.deviation + SMALLEST)
        quality = (quality * self.settings.concentration).clamp(-1.0, 1.0).to(true.dtype)
        return adaptive_margin(true, quality, self.settings.margin)

    def _follow(self, norms: Tensor) -> None:
        """Move the statistics towards those of a batch; one image alone has no deviation."""
        if len(norms) > 1:
            self.mean.lerp_(norms.mean(), self.settings.momentum)
            self.deviation.lerp_(norms.std(), self.settings.momentum)


def adaptive_margin(cosines: Tensor, quality: Tensor, margin: float) -> Tensor:
    """Of cosines and qualities in [-1, 1]; the angle with its margin stays between 0 and pi."""
    moved = angles(cosines) - margin * quality
    return moved.clamp(SMALLEST, math.pi - SMALLEST).cos() - margin * (1.0 + quality)
