"""The inter loss of the Meituan paper, Eq. 8: each class centre away from the one nearest to it.

It is RegularFace's exclusive regularisation (Zhao et al., 2019), whose name it has as well.
"""

from typing import Any

import torch
from torch import Tensor

from distill.losses.loss import Loss, LossInputs, register
from distill.losses.sampled_classes import SampledClasses
from distill.losses.settings import InterSettings

TILE = 256, 65536
"""Rows and columns of the cosines that are in memory at a time: 64 MiB"""


@register("inter")
@register("regularface")
class Inter(Loss):
    """Each class weight away from the one of another identity that is nearest to it::

        loss = mean over classes k of  max over j != k of  <w_k, w_j>

    for class weights of length 1. All classes would take K * K * D multiplications at each step, so
    some are sampled, for which the mean is the expected one. With sub-centres, each is compared
    with those of other identities. It needs no labels, and its gradient goes to the class weights.

    Args:
        identities, embedding: the shape of the class weights.
        classes: how many are sampled at each step and compared with all, 256 unless given; as many
            as there are take all.
        weight: multiplies the loss.

    Example:
        >>> loss = Inter(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32)).backward()
    """

    settings: InterSettings

    def __init__(self, *settings: Any, **given: Any) -> None:
        super().__init__(*settings, **given)
        self.draw = SampledClasses(self.settings.classes)  # by this name it is in checkpoints

    def formula(self, inputs: LossInputs) -> Tensor:
        centres = inputs.unit_centres
        sampled = self.draw(len(centres), centres.device)
        each = 1 if centres.ndim == 2 else centres.shape[1]
        centres = centres.flatten(0, -2)
        if len(centres) == each:
            return 0.0 * centres.sum()  # One identity has no other to keep away from.
        rows = (sampled[:, None] * each + torch.arange(each, device=sampled.device)).flatten()
        nearest = nearest_of_others(centres.detach(), rows, each)
        # Taken together: each taking has a gradient as large as all the centres.
        ours, others = centres[torch.cat([rows, nearest])].chunk(2)
        return (ours * others).sum(dim=1).mean()


def nearest_of_others(centres: Tensor, rows: Tensor, each: int = 1) -> Tensor:
    """For each of ``rows`` [n] of the unit ``centres`` [M, D], the row of another identity that is
    nearest; ``each`` rows in a row are of one identity.

    Only the search runs over all pairs, in tiles and without a gradient.
    """
    return torch.cat([_nearest_of_tile(centres, some, each) for some in rows.split(TILE[0])])


def _nearest_of_tile(centres: Tensor, rows: Tensor, each: int) -> Tensor:
    best = torch.full(rows.shape, -torch.inf, dtype=centres.dtype, device=centres.device)
    nearest = torch.zeros_like(rows)
    for start in range(0, len(centres), TILE[1]):
        columns = centres[start : start + TILE[1]]
        identities = torch.arange(start, start + len(columns), device=rows.device) // each
        cosines = centres[rows] @ columns.T
        cosines.masked_fill_(rows[:, None] // each == identities, -torch.inf)
        values, places = cosines.max(dim=1)
        nearest = torch.where(values > best, start + places, nearest)
        best = torch.maximum(values, best)
    return nearest
