"""Angular distillation as ShrinkTeaNet has it: Yan et al., VarGFaceNet, 2019, Eq. 4."""

from torch import Tensor, nn

from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import AngularSquaredSettings


@register("angular_squared")
class AngularSquared(nn.Module):
    """``(1 - cos)^2``, averaged over the batch.

    It shares only the minimiser with ``angular`` (Eq. 5, ``2 (1 - cos)``): the pull towards the
    teacher dies away as the student comes near.
    """

    def __init__(self, settings: AngularSquaredSettings, embedding: int, identities: int) -> None:
        super().__init__()

    def forward(self, inputs: LossInputs) -> Tensor:
        # Sums and products, which autocast leaves in float32.
        cosines = (inputs.unit_embeddings * inputs.unit_teacher).sum(dim=1)
        return (1.0 - cosines).square().mean()
