"""Losses on mined triplets: Schroff et al., FaceNet, 2015, Eq. 3.

Negatives are images or class weights. Each rank mines triplets for its own images among the images
of all ranks.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distill.losses.collectives import all_gather, all_reduce_sum, own_rows
from distill.losses.loss import Loss, LossInputs, register
from distill.losses.settings import CentreTripletSettings, TripletSettings
from distill.mining import Choice, Triplets, batch_hard, semi_hard, semi_hard_centres, statistics
from distill.ranks import world_size

CHOICES: dict[str, Choice] = {"semi-hard": "random", "hardest-semi-hard": "hardest"}


@register("triplet")
class Triplet(Loss):
    """Triplet loss on mined triplets of the batch of all ranks::

        loss = mean over mined triplets (a, p, n) of  max(0, |a - p|^2 - |a - n|^2 + margin)

    of embeddings of length 1. The loss is a mean as in insightface, a sum in FaceNet. With
    batch-hard the mean is over all images that have a positive, as in Eq. 5 of Hermans et al., who
    use unsquared distances of unnormalised vectors. The batch should contain several images per
    identity; without triplets the loss and its gradient are 0.

    ``statistics`` describe the last batch: see ``distill.mining.statistics``.

    Args:
        mining: default "semi-hard": for every positive pair a random negative farther away
            than the positive by less than the margin; "hardest-semi-hard": the nearest of these;
            "batch-hard": for every image its farthest positive and its nearest negative.
        margin: in squared distance, which is 2 - 2 cos; default 0.2.
        weight: multiplies the loss.

    Example:
        >>> loss = Triplet(mining="batch-hard")
        >>> loss(torch.randn(8, 32, requires_grad=True), torch.arange(8) // 4).backward()
    """

    settings: TripletSettings

    def __init__(self, *settings: Any, **given: Any) -> None:
        super().__init__(*settings, **given)
        self.statistics: dict[str, Tensor] = {}

    def formula(self, inputs: LossInputs) -> Tensor:
        batch = WholeBatch.gather(inputs)
        mined, embeddings = self.mine(batch), batch.embeddings
        to_negative = squared_lengths(embeddings[mined.anchors] - embeddings[mined.negatives])
        margin = self.settings.margin
        loss, self.statistics = mean_violation(embeddings, mined, to_negative, margin)
        return loss

    def mine(self, batch: "WholeBatch") -> Triplets:
        """The triplets whose anchors belong to this rank."""
        mining, margin = self.settings.mining, self.settings.margin
        if mining == "batch-hard":
            return batch_hard(batch.embeddings, batch.labels, batch.own)
        choice = CHOICES[mining]
        return semi_hard(batch.embeddings, batch.labels, margin, choice, batch.own, batch.generator)


@register("centre_triplet")
class CentreTriplet(Loss):
    """Triplet loss whose negatives are semi-hard class weights::

        loss = mean over mined triplets (a, p, k) of  max(0, |a - p|^2 - |a - w_k|^2 + margin)

    of embeddings and class weights of length 1. Anchors and positives are images of the batch. The
    class weights w represent the identities that are not in the batch, nearly all of them;
    ``Triplet`` covers those that are.

    ``statistics`` are those of ``Triplet``, with names prefixed by ``centre_``.

    Args:
        identities, embedding: the shape of the class weights.
        mining: "semi-hard" or "hardest-semi-hard", see ``Triplet``.
        margin: in squared distance, which is 2 - 2 cos; default 0.2.
        weight: multiplies the loss.

    Example:
        >>> loss = CentreTriplet(identities=100, embedding=32)
        >>> loss(torch.randn(8, 32), torch.arange(8) // 4).backward()
    """

    settings: CentreTripletSettings

    def __init__(self, *settings: Any, **given: Any) -> None:
        super().__init__(*settings, **given)
        self.statistics: dict[str, Tensor] = {}

    def formula(self, inputs: LossInputs) -> Tensor:
        batch, margin = WholeBatch.gather(inputs), self.settings.margin
        cosines = inputs.cosines
        if inputs.label_weights is not None:
            cosines = cosines[inputs.label_weights > 0]
        mined = semi_hard_centres(
            batch.embeddings,
            batch.labels,
            cosines,
            margin,
            CHOICES[self.settings.mining],
            batch.own,
            batch.generator,
        )
        to_negative = 2.0 - 2.0 * cosines[mined.anchors - batch.own.start, mined.negatives]
        loss, found = mean_violation(batch.embeddings, mined, to_negative, margin)
        self.statistics = {f"centre_{name}": value for name, value in found.items()}
        return loss


@dataclass(frozen=True)
class WholeBatch:
    """The images of all ranks whose label counts: unit embeddings [N, D] with gradient and labels
    int64 [N]. ``own`` are this rank's rows; ``generator`` has the same state on all ranks."""

    embeddings: Tensor
    labels: Tensor
    own: slice
    generator: torch.Generator

    @classmethod
    def gather(cls, inputs: LossInputs) -> "WholeBatch":
        labels = inputs.labels
        seed = torch.randint(2**62, (1,), device=labels.device)
        gathered = all_gather(torch.cat([seed, labels])).view(world_size(), -1)
        everywhere = gathered[:, 1:].flatten()
        if inputs.label_weights is not None:
            everywhere = everywhere[inputs.all_are_labelled]
        return cls(
            inputs.all_labelled(inputs.unit_embeddings),
            everywhere,
            own_labelled(inputs),
            torch.Generator(labels.device).manual_seed(int(gathered[0, 0])),
        )


def own_labelled(inputs: LossInputs) -> slice:
    """The slice of this rank's images among those of all ranks whose label counts."""
    own = own_rows(len(inputs.labels))
    if inputs.label_weights is None:
        return own
    before = inputs.all_are_labelled[: own.start].sum()
    return slice(int(before), int(before + inputs.all_are_labelled[own].sum()))


def mean_violation(
    embeddings: Tensor, mined: Triplets, to_negative: Tensor, margin: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean of ``max(0, d(a, p) - d(a, n) + margin)`` and the statistics, over all ranks.

    ``embeddings`` are those of the whole batch; ``to_negative`` [T] are the distances to the
    negatives, with gradient. The returned loss is this rank's share times the number of ranks, so
    that the mean over ranks is the loss of all triplets. Without triplets loss and gradient are 0.
    """
    to_positive = squared_lengths(embeddings[mined.anchors] - embeddings[mined.positives])
    totals = all_reduce_sum(mined.totals(margin))
    weight = (world_size() / totals[0].clamp_min(1)).to(embeddings.dtype)
    return weight * (to_positive - to_negative + margin).relu().sum(), statistics(totals)


def squared_lengths(vectors: Tensor) -> Tensor:
    """Squared norms [T] of vectors [T, D]."""
    return vectors.square().sum(dim=1)
