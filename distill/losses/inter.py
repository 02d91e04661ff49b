"""The inter loss of the Meituan paper, Eq. 8: each class centre away from the one nearest to it.

It is RegularFace's exclusive regularisation (Zhao et al., 2019), whose name it has as well.
"""

import torch
from torch import Tensor, nn

from distill.losses.drawn_classes import DrawnClasses
from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import InterSettings

TILE = 256, 65536
"""Rows and columns of the cosines that are in memory at a time: 64 MiB"""


@register("inter")
@register("regularface")
class Inter(nn.Module):
    """The mean, over classes, of the largest cosine between their centre and another class's.

    All classes would take K * K * D multiplications at each step, so some are drawn, for which the
    mean is the expected one. With sub-centres, each is compared with those of other identities.
    """

    def __init__(self, settings: InterSettings, embedding: int, identities: int) -> None:
        super().__init__()
        self.draw = DrawnClasses(settings.classes)

    def forward(self, inputs: LossInputs) -> Tensor:
        centres = inputs.unit_centres
        drawn = self.draw(len(centres), centres.device)
        each = 1 if centres.ndim == 2 else centres.shape[1]
        centres = centres.flatten(0, -2)
        if len(centres) == each:
            return 0.0 * centres.sum()  # One identity has no other to keep away from.
        rows = (drawn[:, None] * each + torch.arange(each, device=drawn.device)).flatten()
        with torch.autocast(centres.device.type, enabled=False):
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
