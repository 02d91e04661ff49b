"""ArcFace: Deng et al., 2019, Eq. 3. A margin added to the angle to the identity's centre."""

import torch
from torch import Tensor

from distill.losses.head import MarginHead, sines
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import ArcFaceSettings


@register("arcface")
class ArcFace(MarginHead):
    """Softmax over ``scale * cos(angle)``, with ``margin`` added to the true identity's angle."""

    settings: ArcFaceSettings

    def target_logits(self, true: Tensor, inputs: LossInputs) -> Tensor:
        return angular_margin(true, torch.full_like(true, self.settings.margin))


def angular_margin(cosines: Tensor, margins: Tensor) -> Tensor:
    """``cos(angle + margin)`` for cosines in [-1, 1] and margins in radians, of one shape.

    Beyond ``angle = pi - margin`` the cosine would rise again; there it goes on as the straight
    line ``cos(angle) - margin * sin(margin)``, so it falls with the angle everywhere.
    """
    with_margin = cosines * margins.cos() - sines(cosines) * margins.sin()
    beyond = cosines <= -margins.cos()
    return torch.where(beyond, cosines - margins * margins.sin(), with_margin)


def add_angular_margin(cosines: Tensor, labels: Tensor, margin: float | Tensor) -> Tensor:
    """``angular_margin`` at each row's label; the other cosines [B, K] as they are.

    ``margin`` is one for all rows, or one for each [B].
    """
    rows = torch.arange(len(labels), device=labels.device)
    true = cosines[rows, labels].clamp(-1.0, 1.0)
    margins = margin if isinstance(margin, Tensor) else torch.full_like(true, margin)
    return cosines.index_put((rows, labels), angular_margin(true, margins))
