"""AdaFace: Kim et al., 2022. The margin depends on the quality of the image."""

import math
from typing import Any

import torch
from torch import Tensor

from distill.losses.head import MarginHead, angles
from distill.losses.loss import LossInputs, register
from distill.losses.settings import AdaFaceSettings

SMALLEST, LONGEST = 1e-3, 100.0
"""Norms are clamped to this range. Angles stay at least ``SMALLEST`` away from 0 and pi."""


@register("adaface")
class AdaFace(MarginHead):
    """A margin that depends on image quality, estimated from the norm of the embedding.

    The formula of ``MarginHead`` with n_k = cos a_k and::

        t = cos(a_y - m q) - m (1 + q)    q = clip(h (norm - mean) / deviation, -1, 1)

    for the norm of the raw embedding, with moving averages of the mean and the standard deviation
    of the norms in a batch. High-quality images emphasise hard samples, low-quality images easy
    ones. No gradient flows through q. The averages cover the norms of all ranks, are saved with
    the weights and are updated in training mode only.

    Args:
        identities, embedding: the shape of the class weights.
        margin: m; default 0.4.
        concentration: h; default 0.333.
        momentum: the weight of a batch in the averages; default 0.01; the paper's alpha.
        scale: s; default 64.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; default none.
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
        # Initial values of the authors' code. Margins spread as the deviation nears its true value.
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
        """Update the moving averages; a single image has no standard deviation."""
        if len(norms) > 1:
            self.mean.lerp_(norms.mean().to(self.mean), self.settings.momentum)
            self.deviation.lerp_(norms.std().to(self.mean), self.settings.momentum)


def adaptive_margin(cosines: Tensor, quality: Tensor, margin: float) -> Tensor:
    """Target logits [B] from cosines and qualities in [-1, 1].

    The angle including its margin is clamped to the open interval (0, pi).
    """
    moved = angles(cosines) - margin * quality
    return moved.clamp(SMALLEST, math.pi - SMALLEST).cos() - margin * (1.0 + quality)
