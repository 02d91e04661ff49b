"""Triplet loss: Schroff et al., FaceNet, 2015, Eq. 3, on the triplets that mining chooses."""

import torch
from torch import Tensor, nn

from distill.losses.inputs import LossInputs
from distill.losses.mined_triplets import CHOICES, WholeBatch, mean_violation, squared_lengths
from distill.losses.registry import register
from distill.losses.settings import TripletSettings
from distill.mining import Triplets, batch_hard, semi_hard


@register("triplet")
class Triplet(nn.Module):
    """The mean of ``max(0, d(a, p) - d(a, n) + margin)`` over the mined triplets of all ranks.

    The mean as in insightface, where FaceNet sums. With batch-hard it is over all images that have
    a positive, like Eq. 5 of Hermans et al., who take plain distances of vectors of any length;
    here they are squared, of unit vectors, for all mining. Wants batches with several images
    of an identity (``sampler`` pk); one without triplets gives 0, with a gradient of 0.

    ``statistics`` are of the last batch: see ``distill.mining.statistics``.
    """

    def __init__(self, settings: TripletSettings, embedding: int, identities: int) -> None:
        super().__init__()
        self.mining, self.margin = settings.mining, settings.margin
        self.statistics: dict[str, Tensor] = {}

    def forward(self, inputs: LossInputs) -> Tensor:
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            batch = WholeBatch.gather(inputs)
            mined = self.mine(batch)
            embeddings = batch.embeddings
            to_negative = squared_lengths(embeddings[mined.anchors] - embeddings[mined.negatives])
            loss, self.statistics = mean_violation(embeddings, mined, to_negative, self.margin)
        return loss

    def mine(self, batch: WholeBatch) -> Triplets:
        """The triplets whose anchors are of this rank."""
        if self.mining == "batch-hard":
            return batch_hard(batch.embeddings, batch.labels, batch.own)
        choice = CHOICES[self.mining]
        return semi_hard(
            batch.embeddings, batch.labels, self.margin, choice, batch.own, batch.generator
        )
