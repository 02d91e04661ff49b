"""The inter loss of the Meituan paper, Eq. 8: pushes each class weight away from its nearest one.

It equals RegularFace's exclusive regularisation (Zhao et al., 2019) and is registered under both
names.
"""

from typing import Any

import torch
from torch import Tensor

from distill.losses.loss import Loss, LossInputs, register
from distill.losses.sampled_classes import SampledClasses
from distill.losses.settings import InterSettings

TILE = 256, 65536
"""Rows and columns of cosines in memory at a time: 64 MiB"""


@register("inter")
@register("regularface")
class Inter(Loss):
    """Pushes each class weight away from the nearest class weight of another identity::

        loss = mean over classes k of  max over j != k of  <w_k, w_j>

    for class weights of length 1. All classes would cost K * K * D multiplications per step, so
    each step samples some; the expected loss is the same. A sub-centre is compared with those of
    other identities. Needs no labels; the gradient flows to the class weights only.

    Args:
        identities, embedding: the shape of the class weights.
        classes: the number sampled per step and compared with all; default 256; any number
            from K up means all.
        weight: multiplies the loss.

    Example:
        >>> loss = Inter(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32)).backward()
    """

    settings: InterSettings

    def __init__(self, *settings: Any, **given: Any) -> None:
        super().__init__(*settings, **given)
        self.draw = SampledClasses(self.settings.classes)  # checkpoints use this name

    def formula(self, inputs: LossInputs) -> Tensor:
        centres = inputs.unit_centres
        sampled = self.draw(len(centres), centres.device)
        each = 1 if centres.ndim == 2 else centres.shape[1]
        centres = centres.flatten(0, -2)
        if len(centres) == each:
            return 0.0 * centres.sum()  # One identity has no other to keep away from.
        rows = (sampled[:, None] * each + torch.arange(each, device=sampled.device)).flatten()
        nearest = nearest_of_others(centres.detach(), rows, each)
        # Index once: the gradient of every indexing is as large as all class weights.
        ours, others = centres[torch.cat([rows, nearest])].chunk(2)
        return (ours * others).sum(dim=1).mean()


def nearest_of_others(centres: Tensor, rows: Tensor, each: int = 1) -> Tensor:
    """For each of ``rows`` [n] of the unit ``centres`` [M, D], the nearest row of another identity.

    ``each`` consecutive rows belong to one identity. The search runs in tiles, without gradient.
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
