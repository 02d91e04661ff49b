"""SphereFace: Liu et al., 2017, Eq. 7. A factor on the angle to the class weight."""

import math

import torch
from torch import Tensor

from distill.losses.head import MarginHead, angles
from distill.losses.loss import LossInputs, register
from distill.losses.settings import SphereFaceSettings


@register("sphereface")
class SphereFace(MarginHead):
    """A factor on the angle between an embedding and the class weight of its identity.

    The formula of ``MarginHead`` with n_k = cos a_k and::

        t = psi(m a_y)    psi(a) = (-1)^q cos a - 2 q    q = floor(a / pi)

    A fixed scale replaces the norm of the embedding in the paper. The paper's annealing from the
    plain softmax, which the factor 4 needs when training from scratch, is not implemented.

    Args:
        identities, embedding: the shape of the class weights.
        margin: the factor m; default 1.35, as in insightface, which trains without annealing;
            4 in the paper.
        scale: s; default 64.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; default none.
        weight: multiplies the loss.

    Example:
        >>> loss = SphereFace(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """

    settings: SphereFaceSettings

    def target_logits(self, cosines: Tensor, inputs: LossInputs) -> Tensor:
        return falling_cosine(self.settings.margin * angles(cosines))


def falling_cosine(angles: Tensor) -> Tensor:
    """``(-1)^k cos(angle) - 2k`` with ``k = floor(angle / pi)``, which keeps decreasing past pi.

    Source: SphereFace, the psi below Eq. 7, where the angle is m times one in [0, pi].
    """
    turns = (angles.detach() / math.pi).floor()
    sign = 1.0 - 2.0 * torch.remainder(turns, 2.0)
    return sign * angles.cos() - 2.0 * turns
