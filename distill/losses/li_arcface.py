"""Li-ArcFace: Li et al., AirFace, 2019. A margin on logits linear in the angle."""

import math

from torch import Tensor

from distill.losses.head import MarginHead, angles
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import LiArcFaceSettings


@register("li_arcface")
class LiArcFace(MarginHead):
    """Softmax over ``scale * (pi - 2 * angle) / pi``, with ``margin`` on the true identity's angle.

    A straight line falls everywhere, so nothing needs to be done where the angle passes pi.
    """

    settings: LiArcFaceSettings

    def target_logits(self, true: Tensor, inputs: LossInputs) -> Tensor:
        return linear_in_angle(true) - 2.0 * self.settings.margin / math.pi

    def non_target_logits(self, cosines: Tensor, with_margin: Tensor) -> Tensor:
        return linear_in_angle(cosines)


def linear_in_angle(cosines: Tensor) -> Tensor:
    """``(pi - 2 * angle) / pi``: 1 at the angle 0, -1 at pi, as the cosine."""
    return 1.0 - 2.0 * angles(cosines) / math.pi
