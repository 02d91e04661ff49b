"""CosFace: Wang et al., 2018, Eq. 4. A margin taken from the cosine to the identity's centre."""

from pydantic import Field
from torch import Tensor

from distill.losses.head import HeadSettings, MarginHead
from distill.losses.inputs import LossInputs
from distill.losses.registry import register


class CosFaceSettings(HeadSettings):
    """The paper's margin is 0.35, that of insightface's arcface_torch 0.40."""

    margin: float = Field(default=0.35, ge=0, lt=1)


@register("cosface", CosFaceSettings, needs_centres=True)
class CosFace(MarginHead):
    """Softmax over ``scale * cos(angle)``, the true identity's being ``cos(angle) - margin``."""

    settings: CosFaceSettings

    def true_cosines(self, true: Tensor, inputs: LossInputs) -> Tensor:
        return true - self.settings.margin
