"""Batch hard: Hermans et al., In Defense of the Triplet Loss, 2017, Eq. 5."""

import math

import torch
from torch import Tensor

from distill.mining.triplets import ALL, Triplets, same_identity, squared_distances


@torch.no_grad()
def batch_hard(embeddings: Tensor, labels: Tensor, anchors: slice = ALL) -> Triplets:
    """For each anchor, its farthest positive and its nearest negative of the batch.

    ``embeddings`` are unit vectors [N, D], ``labels`` int64 [N]; ``anchors`` selects the rows to
    use as anchors. An anchor without a positive or a negative makes no triplet. The paper compares
    unsquared distances, which have the same order.
    """
    own = torch.arange(len(labels), device=labels.device)[anchors]
    rows = torch.arange(len(own), device=labels.device)
    distances = squared_distances(embeddings[anchors], embeddings)
    same = same_identity(labels, anchors)
    other = ~same
    same[rows, own] = False
    to_positive, positives = distances.masked_fill(~same, -math.inf).max(dim=1)
    to_negative, negatives = distances.masked_fill(~other, math.inf).min(dim=1)
    whole = same.any(dim=1) & other.any(dim=1)
    return Triplets(
        own[whole],
        positives[whole],
        negatives[whole],
        to_positive[whole],
        to_negative[whole],
        candidates=len(own),
    )
