"""SphereFace: Liu et al., 2017, Eq. 7. The angle to the identity's centre, multiplied."""

import math

import torch
from torch import Tensor

from distill.losses.head import MarginHead, angles
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import SphereFaceSettings


@register("sphereface")
class SphereFace(MarginHead):
    """Softmax over ``scale * cos(angle)``, with the true identity's angle times ``margin``.

    A fixed ``scale`` stands for the paper's length of the embedding, and nothing for its blending
    with the plain softmax, which the factor 4 needs from fresh weights.
    """

    settings: SphereFaceSettings

    def target_logits(self, true: Tensor, inputs: LossInputs) -> Tensor:
        return falling_cosine(self.settings.margin * angles(true))


def falling_cosine(angles: Tensor) -> Tensor:
    """``(-1)^k cos(angle) - 2k`` with ``k = floor(angle / pi)``: the cosine, falling on past pi.

    Source: SphereFace, the psi below Eq. 7, where the angle is m times one in [0, pi].
    """
    turns = (angles.detach() / math.pi).floor()
    sign = 1.0 - 2.0 * torch.remainder(turns, 2.0)
    return sign * angles.cos() - 2.0 * turns
