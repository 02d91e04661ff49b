"""Triplet loss whose negatives are semi-hard class centres: see ``distill.losses.triplet``."""

import torch
from torch import Tensor, nn

from distill.losses.inputs import LossInputs
from distill.losses.mined_triplets import CHOICES, WholeBatch, mean_violation
from distill.losses.registry import register
from distill.losses.settings import CentreTripletSettings
from distill.mining import semi_hard_centres


@register("centre_triplet")
class CentreTriplet(nn.Module):
    """The mean of ``max(0, d(a, p) - d(a, W_n) + margin)`` over the mined triplets of all ranks.

    Anchors and positives are images of the batch; the centres W stand for the identities that the
    batch does not hold, which are nearly all of them; ``triplet`` is for those that it does.

    ``statistics`` are as of ``triplet``, with ``centre_`` before their names.
    """

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
