"""Triplets as indices, their statistics, and the positive pairs they start from.

Distances are squared Euclidean ones of unit vectors, ``2 - 2 cos``, in [0, 4].
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ALL = slice(None)


@dataclass(frozen=True)
class Triplets:
    """T triplets: int64 [T] each, and the distances [T] to the positive and the negative.

    ``anchors`` and ``positives`` are rows of the batch; ``negatives`` are rows too, or identities
    if they are class weights. ``candidates`` is the maximum possible number of triplets.
    """

    anchors: Tensor
    positives: Tensor
    negatives: Tensor
    to_positive: Tensor
    to_negative: Tensor
    candidates: int

    def __len__(self) -> int:
        return len(self.anchors)

    def totals(self, margin: float) -> Tensor:
        """float64 [4]: triplets, candidates, triplets that violate the margin, sum of violations.

        May be summed over ranks; ``statistics`` takes the result.
        """
        violations = (self.to_positive - self.to_negative + margin).clamp_min(0).double()
        violating, amount = (violations > 0).sum().double(), violations.sum()
        counts = amount.new_tensor([len(self), self.candidates])
        return torch.cat([counts, torch.stack([violating, amount])])


def statistics(totals: Tensor) -> dict[str, Tensor]:
    """Scalars ``mined_share`` and ``margin_violation``, from ``totals`` [4].

    The share of candidates that became triplets with a violated margin, and the mean violation of
    such a triplet; 0 if there is nothing to divide by.
    """
    _, candidates, violating, amount = totals.float()
    return {
        "mined_share": violating / candidates.clamp_min(1),
        "margin_violation": amount / violating.clamp_min(1),
    }


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """[A, N] between unit vectors [A, D] and [N, D]."""
    return from_cosines(left @ right.T)


def from_cosines(cosines: Tensor) -> Tensor:
    """Squared distances of unit vectors with these ``cosines``, in the same shape.

    They are clamped to be non-negative despite rounding.
    """
    return (2.0 - 2.0 * cosines).clamp_min(0.0)


def same_identity(labels: Tensor, anchors: slice = ALL) -> Tensor:
    """bool [A, N]: which images of the batch have the identity of the anchor, itself included."""
    return labels[anchors, None] == labels


def positive_pairs(labels: Tensor, anchors: slice = ALL) -> tuple[Tensor, Tensor]:
    """int64 [T] each: the anchors' rows among the anchors, their positives' rows in the batch."""
    pairs = same_identity(labels, anchors)
    own = torch.arange(len(labels), device=labels.device)[anchors]
    pairs[torch.arange(len(own), device=labels.device), own] = False
    rows, positives = pairs.nonzero(as_tuple=True)
    return rows, positives
