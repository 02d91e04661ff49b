"""The combined margin: Deng et al., ArcFace, 2019, Eq. 4: m1, m2 and m3 together."""

import math

import torch
from pydantic import Field
from torch import Tensor

from distill.losses.arcface import angular_margin
from distill.losses.head import HeadSettings, MarginHead, angles
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.sphereface import falling_cosine


class CombinedSettings(HeadSettings):
    """``m1`` multiplies the angle, ``m2`` (radians) adds to it, ``m3`` is off its cosine.

    The values are insightface's ``combined``.
    """

    m1: float = Field(default=1.0, ge=1, le=4)
    m2: float = Field(default=0.3, ge=0, lt=math.pi / 2)
    m3: float = Field(default=0.2, ge=0, lt=1)


@register("combined", CombinedSettings, needs_centres=True)
class Combined(MarginHead):
    """Softmax over ``scale * cos(angle)``, the true one being ``cos(m1 * angle + m2) - m3``.

    (1, m, 0) is ArcFace, (1, 0, m) CosFace, (m, 0, 0) SphereFace. The Meituan paper prints m3
    outside the scale (Eq. 4), but its Eq. 6 compares it with cosines, as here.
    """

    settings: CombinedSettings

    def true_cosines(self, true: Tensor, inputs: LossInputs) -> Tensor:
        return combined_margin(true, self.settings.m1, self.settings.m2, self.settings.m3)


def combined_margin(cosines: Tensor, m1: float, m2: float, m3: float) -> Tensor:
    """``cos(m1 * angle + m2) - m3``; past pi it falls on as ArcFace's, or as SphereFace's psi."""
    if m1 == 1.0:
        return angular_margin(cosines, torch.full_like(cosines, m2)) - m3
    return falling_cosine(m1 * angles(cosines) + m2) - m3
