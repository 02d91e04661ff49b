"""Triplet loss whose negatives are semi-hard class centres: see ``distill.losses.triplet``."""

from typing import Literal

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from distill.losses.inputs import LossInputs
from distill.losses.mined_triplets import CHOICES, WholeBatch, mean_violation
from distill.losses.needs import Needs
from distill.losses.registry import LossSettings, register
from distill.mining import semi_hard_centres


class CentreTripletSettings(LossSettings):
    """As ``TripletSettings``."""

    mining: Literal["semi-hard", "hardest-semi-hard"] = "semi-hard"
    margin: PositiveFloat = 0.2


@register("centre_triplet", CentreTripletSettings, needs_centres=True)
class CentreTriplet(nn.Module):
    """The mean of ``max(0, d(a, p) - d(a, W_n) + margin)`` over the mined triplets of all ranks.

    Anchors and positives are images of the batch; the centres W stand for the identities that the
    batch does not hold, which are nearly all of them; ``triplet`` is for those that it does.

    ``statistics`` are as of ``triplet``, with ``centre_`` before their names.
    """

    needs = Needs(identities=2, positives=True, absent=True)

    def __init__(self, settings: CentreTripletSettings, embedding: int, identities: int) -> None:
        super().__init__()
        self.choice, self.margin = CHOICES[settings.mining], settings.margin
        self.statistics: dict[str, Tensor] = {}

    def forward(self, inputs: LossInputs) -> Tensor:
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            batch, cosines = WholeBatch.gather(inputs), inputs.cosines
            mined = semi_hard_centres(
                batch.embeddings,
                batch.labels,
                cosines,
                self.margin,
                self.choice,
                batch.own,
                batch.generator,
            )
            to_negative = 2.0 - 2.0 * cosines[mined.anchors - batch.own.start, mined.negatives]
            loss, found = mean_violation(batch.embeddings, mined, to_negative, self.margin)
        self.statistics = {f"centre_{name}": value for name, value in found.items()}
        return loss
