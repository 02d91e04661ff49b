"""Distance-wise relational distillation (RKD-D): Park et al., 2019, Eq. 5 to 7."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import RelationalDistanceSettings

_SMALLEST_MEAN = 1e-12


@register("relational_distance")
class RelationalDistance(nn.Module):
    """Huber loss between the distances within the batch, each in units of the mean distance.

    Of unit embeddings, since faces are compared by angle; teacher and student may differ in width.
    The mean is over all ordered pairs, those of an image with itself included, as in the authors'
    code. Each rank relates the images of its own share of the batch.
    """

    def __init__(
        self, settings: RelationalDistanceSettings, embedding: int, identities: int
    ) -> None:
        super().__init__()

    def forward(self, inputs: LossInputs) -> Tensor:
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            return relational_distance_loss(inputs.unit_embeddings, inputs.unit_teacher)


def relational_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Of unit embeddings [B, D] and [B, Dt]."""
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))


def _relative_distances(unit: Tensor) -> Tensor:
    """Distances [B, B] over the mean of those between different images; all 0 where none differ."""
    # From differences, not from products: exact for near neighbours, and no slope at distance 0.
    distances = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = max(1, len(unit) * (len(unit) - 1))
    return distances / (distances.sum() / pairs).clamp_min(_SMALLEST_MEAN)
