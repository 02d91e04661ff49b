"""Margins set by the teacher: the surer it is of an image or a triplet, the larger."""

import torch
from torch import Tensor

from distill.losses.all_gather import gather_rows

_SMALLEST_MAXIMUM = 1e-12


def teacher_margins(certainty: Tensor, smallest: float, largest: float) -> Tensor:
    """Margins [T]: the smallest at 0 and below, the largest at the batch's highest, on a line.

    ``certainty`` [T] may be empty; the highest is that of all ranks. Source: Feng et al., Triplet
    Distillation, 2020, ``F(d)``.
    """
    certainty = certainty.clamp_min(0)
    own_highest = torch.cat([certainty, certainty.new_zeros(1)]).amax()
    highest = gather_rows(own_highest[None]).amax().clamp_min(_SMALLEST_MAXIMUM)
    return smallest + (largest - smallest) * certainty / highest
