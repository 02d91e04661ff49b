"""Li-ArcFace: Li et al., AirFace, 2019. A margin on logits linear in the angle."""

import math

from torch import Tensor

from distill.losses.head import MarginHead, angles
from distill.losses.loss import LossInputs, register
from distill.losses.settings import LiArcFaceSettings


@register("li_arcface")
class LiArcFace(MarginHead):
    """Logits linear in the angle, with a margin added to the angle of the image's own identity.

    The formula of ``MarginHead`` with::

        t = (pi - 2 (a_y + m)) / pi    n_k = (pi - 2 a_k) / pi

    The logit decreases everywhere, so angles beyond pi need no special case.

    Args:
        identities, embedding: the shape of the class weights.
        margin: m in radians; default 0.45; the papers use 0.4 to 0.45.
        scale: s; default 64.
        class_balance: the beta of ``balanced_weights``; needs ``identity_counts``.
        filter_above: the threshold of ``filtered_negatives``; default none.
        weight: multiplies the loss.

    Example:
        >>> loss = LiArcFace(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32), torch.arange(8)).backward()
    """

    settings: LiArcFaceSettings

    def target_logits(self, cosines: Tensor, inputs: LossInputs) -> Tensor:
        return linear_in_angle(cosines) - 2.0 * self.settings.margin / math.pi

    def non_target_logits(self, cosines: Tensor, target: Tensor) -> Tensor:
        return linear_in_angle(cosines)


def linear_in_angle(cosines: Tensor) -> Tensor:
    """``(pi - 2 * angle) / pi``: 1 at the angle 0 and -1 at pi, like the cosine; any shape."""
    return 1.0 - 2.0 * angles(cosines) / math.pi
