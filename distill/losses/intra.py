"""The intra loss of the Meituan paper, Eq. 7: images near the centres of their identities."""

from torch import Tensor, nn

from distill.losses.head import angles
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import IntraSettings


@register("intra")
class Intra(nn.Module):
    """The mean angle, in radians, between embeddings and the centres of their identities."""

    def __init__(self, settings: IntraSettings, embedding: int, identities: int) -> None:
        super().__init__()

    def forward(self, inputs: LossInputs) -> Tensor:
        return angles(inputs.target_logits).mean()
