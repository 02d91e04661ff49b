"""CosFace: Wang et al., 2018, Eq. 4. A margin taken from the cosine to the identity's centre."""

from torch import Tensor

from distill.losses.head import MarginHead
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import CosFaceSettings


@register("cosface")
class CosFace(MarginHead):
    """Softmax over ``scale * cos(angle)``, the true identity's being ``cos(angle) - margin``."""

    settings: CosFaceSettings

    def target_logits(self, true: Tensor, inputs: LossInputs) -> Tensor:
        return true - self.settings.margin
