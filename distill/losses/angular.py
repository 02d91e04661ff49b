"""Angular distillation: Yan et al., VarGFaceNet, 2019, Eq. 5."""

from torch import Tensor, nn

from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import AngularSettings


@register("angular")
class Angular(nn.Module):
    """Squared distance of the unit embeddings: summed over dimensions, averaged over the batch.

    Equals ``2 (1 - cos)``. A mean over dimensions as well (``nn.MSELoss``) would be smaller by the
    length of the embedding. Knows nothing of identities, so it needs no labels.
    """

    def __init__(self, settings: AngularSettings, embedding: int, identities: int) -> None:
        super().__init__()

    def forward(self, inputs: LossInputs) -> Tensor:
        difference = inputs.unit_embeddings - inputs.unit_teacher
        return difference.square().sum(dim=1).mean()
