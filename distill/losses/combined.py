"""The combined margin: Deng et al., ArcFace, 2019, Eq. 4: m1, m2 and m3 together."""

import torch
from torch import Tensor

from distill.losses.arcface import angular_margin
from distill.losses.head import MarginHead, angles
from distill.losses.loss import LossInputs, register
from distill.losses.settings import CombinedSettings
from distill.losses.sphereface import falling_cosine


@register("combined")
class Combined(MarginHead):
    """The margins of SphereFace, ArcFace and CosFace together.

    The formula of ``MarginHead`` with n_k = cos a_k and::

        t = cos(m1 a_y + m2) - m3

    (1, m, 0) is ArcFace, (1, 0, m) CosFace, (m, 0, 0) SphereFace. The Meituan paper prints m3
    outside the scale (Eq. 4), but its Eq. 6 compares it with cosines, as here.

    Args:
        identities, embedding: the shape of the class weights.
        m1: multiplies the angle; default 1; the three defaults are insightface's ``combined``.
        m2: added to the angle in radians; default 0.3.
        m3: subtracted from the cosine; default 0.2.
        scale: s; default 64.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; default none.
        weight: multiplies the loss.

    Example:
        >>> loss = Combined(identities=100, embedding=32, m2=0.4, m3=0.1)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """

    settings: CombinedSettings

    def target_logits(self, cosines: Tensor, inputs: LossInputs) -> Tensor:
        return combined_margin(cosines, self.settings.m1, self.settings.m2, self.settings.m3)


def combined_margin(cosines: Tensor, m1: float, m2: float, m3: float) -> Tensor:
    """``cos(m1 * angle + m2) - m3`` [B] for the ``cosines`` [B] to the own identities.

    ``m2`` is in radians. Past pi it is continued as in ArcFace (``m1`` = 1) or by SphereFace's psi.
    """
    if m1 == 1.0:
        return angular_margin(cosines, torch.full_like(cosines, m2)) - m3
    return falling_cosine(m1 * angles(cosines) + m2) - m3
