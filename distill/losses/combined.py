"""The combined margin: Deng et al., ArcFace, 2019, Eq. 4: m1, m2 and m3 together."""

import torch
from torch import Tensor

from distill.losses.arcface import angular_margin
from distill.losses.head import MarginHead, angles
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import CombinedSettings
from distill.losses.sphereface import falling_cosine


@register("combined")
class Combined(MarginHead):
    """Softmax over ``scale * cos(angle)``, the true one being ``cos(m1 * angle + m2) - m3``.

    (1, m, 0) is ArcFace, (1, 0, m) CosFace, (m, 0, 0) SphereFace. The Meituan paper prints m3
    outside the scale (Eq. 4), but its Eq. 6 compares it with cosines, as here.
    """

    settings: CombinedSettings

    def target_logits(self, true: Tensor, inputs: LossInputs) -> Tensor:
        return combined_margin(true, self.settings.m1, self.settings.m2, self.settings.m3)


def combined_margin(cosines: Tensor, m1: float, m2: float, m3: float) -> Tensor:
    """``cos(m1 * angle + m2) - m3``; past pi it falls on as ArcFace's, or as SphereFace's psi."""
    if m1 == 1.0:
        return angular_margin(cosines, torch.full_like(cosines, m2)) - m3
    return falling_cosine(m1 * angles(cosines) + m2) - m3
