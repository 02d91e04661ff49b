"""Li-ArcFace: Li et al., AirFace, 2019. A margin on logits linear in the angle."""

import math

from pydantic import Field
from torch import Tensor

from distill.losses.head import HeadSettings, MarginHead, angles
from distill.losses.inputs import LossInputs
from distill.losses.registry import register


class LiArcFaceSettings(HeadSettings):
    """``margin`` is in radians; the papers use 0.4 to 0.45."""

    margin: float = Field(default=0.45, ge=0, lt=math.pi / 2)


@register("li_arcface", LiArcFaceSettings, needs_centres=True)
class LiArcFace(MarginHead):
    """Softmax over ``scale * (pi - 2 * angle) / pi``, with ``margin`` on the true identity's angle.

    A straight line falls everywhere, so nothing needs to be done where the angle passes pi.
    """

    settings: LiArcFaceSettings

    def true_cosines(self, true: Tensor, inputs: LossInputs) -> Tensor:
        return linear_in_angle(true) - 2.0 * self.settings.margin / math.pi

    def other_cosines(self, cosines: Tensor, with_margin: Tensor) -> Tensor:
        return linear_in_angle(cosines)


def linear_in_angle(cosines: Tensor) -> Tensor:
    """``(pi - 2 * angle) / pi``: 1 at the angle 0, -1 at pi, as the cosine."""
    return 1.0 - 2.0 * angles(cosines) / math.pi
