"""ArcFace: Deng et al., 2019, Eq. 3. A margin added to the angle to the identity's centre."""

import math

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from distill.losses.registry import LossInputs, LossSettings, register


class ArcFaceSettings(LossSettings):
    """``scale`` multiplies the cosines; ``margin`` is in radians."""

    scale: PositiveFloat = 64.0
    margin: float = Field(default=0.5, ge=0, lt=math.pi / 2)


@register("arcface", ArcFaceSettings)
class ArcFace(nn.Module):
    """Softmax over ``scale * cos(angle)``, with ``margin`` added to the true identity's angle.

    The centres are a parameter [identities, embedding]. Computed in float32 whatever the network's
    precision.
    """

    def __init__(self, settings: ArcFaceSettings, embedding: int, identities: int) -> None:
        super().__init__()
        self.scale, self.margin = settings.scale, settings.margin
        self.centres = nn.Parameter(torch.empty(identities, embedding))
        nn.init.normal_(self.centres, std=0.01)

    def forward(self, inputs: LossInputs) -> Tensor:
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            cosines = F.linear(
                F.normalize(inputs.embeddings.float()), F.normalize(self.centres.float())
            )
            logits = self.scale * add_angular_margin(cosines, inputs.labels, self.margin)
            return F.cross_entropy(logits, inputs.labels)


def add_angular_margin(cosines: Tensor, labels: Tensor, margin: float) -> Tensor:
    """``cos(angle + margin)`` at each row's label, the other cosines as they are.

    Beyond ``angle = pi - margin`` the cosine would rise again; there it goes on as the straight
    line ``cos(angle) - margin * sin(margin)``, so the logit falls with the angle everywhere.
    """
    rows = torch.arange(len(labels), device=labels.device)
    true = cosines[rows, labels].clamp(-1.0, 1.0)
    # The square root has no derivative at 0, where the angle is 0 or pi.
    sines = (1.0 - true.square()).clamp_min(1e-12).sqrt()
    with_margin = true * math.cos(margin) - sines * math.sin(margin)
    beyond = true <= math.cos(math.pi - margin)
    with_margin = torch.where(beyond, true - margin * math.sin(margin), with_margin)
    return cosines.index_put((rows, labels), with_margin)
