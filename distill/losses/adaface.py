"""AdaFace: Kim et al., 2022. Margins that follow the quality of the image."""

import math
from typing import Any

import torch
from torch import Tensor

from distill.losses.head import MarginHead, angles
from distill.losses.loss import LossInputs, register
from distill.losses.settings import AdaFaceSettings

SMALLEST, LONGEST = 1e-3, 100.0
"""Norms are taken within these; the first is also what angles keep from 0 and pi."""


@register("adaface")
class AdaFace(MarginHead):
    """A margin that follows the quality of the image, for which the embedding's length stands.

    The formula of ``MarginHead`` with n_k = cos a_k and::

        t = cos(a_y - m q) - m (1 + q)    q = clip(h (norm - mean) / deviation, -1, 1)

    for the length ``norm`` of the raw embedding, and moving averages of the mean and the deviation
    of the lengths in a batch. High quality pulls from far away, low quality near by. No gradient
    goes through q. The lengths of all ranks count; the averages are kept with the weights and move
    only in training.

    Args:
        identities, embedding: the shape of the class weights.
        margin: m, 0.4 unless given.
        concentration: h, 0.333 unless given.
        momentum: by how much a batch moves the averages, 0.01 unless given; the paper's alpha.
        scale: s, 64 unless given.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; none unless given.
        weight: multiplies the loss.

    Example:
        >>> loss = AdaFace(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """

    settings: AdaFaceSettings
    mean: Tensor
    deviation: Tensor

    def __init__(self, *settings: Any, **given: Any) -> None:
        super().__init__(*settings, **given)
        # As in the authors' code; the margins widen as the deviation comes down to that of norms.
        self.register_buffer("mean", torch.tensor(20.0))
        self.register_buffer("deviation", torch.tensor(100.0))

    def target_logits(self, cosines: Tensor, inputs: LossInputs) -> Tensor:
        norms = inputs.embeddings.detach().float().norm(dim=1).clamp(SMALLEST, LONGEST)
        if self.training:
            self._follow(inputs.all_labelled(norms))
        quality = (norms - self.mean) / (self.deviation + SMALLEST)
        quality = (quality * self.settings.concentration).clamp(-1.0, 1.0).to(cosines.dtype)
        return adaptive_margin(cosines, quality, self.settings.margin)

    def _follow(self, norms: Tensor) -> None:
        """Move the statistics towards those of a batch; one image alone has no deviation."""
        if len(norms) > 1:
            self.mean.lerp_(norms.mean().to(self.mean), self.settings.momentum)
            self.deviation.lerp_(norms.std().to(self.mean), self.settings.momentum)


def adaptive_margin(cosines: Tensor, quality: Tensor, margin: float) -> Tensor:
    """Of cosines and qualities in [-1, 1]; the angle with its margin stays between 0 and pi."""
    moved = angles(cosines) - margin * quality
    return moved.clamp(SMALLEST, math.pi - SMALLEST).cos() - margin * (1.0 + quality)
