"""Semi-hard negatives: Schroff et al., FaceNet, 2015, section 3.2 and Eq. 4.

A negative is semi-hard for an anchor and a positive if it is farther away than the positive, but by
less than the margin::

    d(anchor, positive) < d(anchor, negative) < d(anchor, positive) + margin

Both inequalities are strict, as in insightface's ``triplet_image_iter.py`` ("FaceNet selection").
The looser rule without the first one ("VGG Face") also accepts negatives that are nearer than the
positive. insightface makes one triplet pair of two images with the earlier one as its anchor; here
each of the two is an anchor.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from distill.mining.triplets import ALL, Triplets, from_cosines, positive_pairs, same_identity

Choice = Literal["random", "hardest"]
"""Which semi-hard negative of a pair to choose: any, as insightface does, or the nearest."""
AT_ONCE = 1 << 22
"""Maximum number of distances (pairs times negatives) to compute at once"""


@torch.no_grad()
def semi_hard(
    embeddings: Tensor,
    labels: Tensor,
    margin: float,
    choice: Choice = "random",
    anchors: slice = ALL,
    generator: torch.Generator | None = None,
) -> Triplets:
    """For each anchor and each of its positives, a semi-hard negative of the batch, if any.

    ``embeddings`` are unit vectors [N, D], ``labels`` int64 [N]; ``anchors`` selects the rows to
    use as anchors. ``generator`` makes the random choice; torch's own by default.
    """
    cosines = embeddings[anchors] @ embeddings.T
    forbidden = same_identity(labels, anchors)
    return _mine(cosines, cosines, forbidden, labels, margin, choice, anchors, generator)


@torch.no_grad()
def semi_hard_centres(
    embeddings: Tensor,
    labels: Tensor,
    cosines: Tensor,
    margin: float,
    choice: Choice = "random",
    anchors: slice = ALL,
    generator: torch.Generator | None = None,
) -> Triplets:
    """Like ``semi_hard``, with the class weights of all identities outside the batch as negatives.

    ``cosines`` [A, K] are those of the anchors to the class weights; a label is one of K.
    ``Triplets.negatives`` are indices of class weights.
    """
    present = torch.zeros(cosines.shape[1], dtype=torch.bool, device=labels.device)
    present[labels] = True
    in_batch = embeddings[anchors] @ embeddings.T
    forbidden = present.expand_as(cosines)
    return _mine(in_batch, cosines, forbidden, labels, margin, choice, anchors, generator)


def _mine(
    to_batch: Tensor,
    to_negatives: Tensor,
    forbidden: Tensor,
    labels: Tensor,
    margin: float,
    choice: Choice,
    anchors: slice,
    generator: torch.Generator | None,
) -> Triplets:
    """Mine from the anchors' cosines to the batch [A, N] and to the negatives [A, M];
    ``forbidden`` is bool [A, M]."""
    rows, positives = positive_pairs(labels, anchors)
    to_positive = from_cosines(to_batch[rows, positives])
    own = torch.arange(len(labels), device=labels.device)[anchors]
    # One number for each image as an anchor and one as a positive: their sum modulo 1 is uniform
    # for every pair, and does not depend on which anchors this call processes.
    random = torch.rand(2, len(labels), generator=generator, device=labels.device)
    draws = (random[0, own[rows]] + random[1, positives]) % 1.0
    found, negatives, distances = [], [], []
    step = max(1, AT_ONCE // max(1, to_negatives.shape[1]))
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        near = to_positive[part, None]
        far = from_cosines(to_negatives[rows[part]])
        semi = (near < far) & (far - near < margin) & ~forbidden[rows[part]]
        chosen = _random(semi, draws[part]) if choice == "random" else _nearest(semi, far)
        found.append(semi.any(dim=1))
        negatives.append(chosen)
        distances.append(far.gather(1, chosen[:, None]).squeeze(1))
    if not found:
        none = to_positive.new_empty(0)
        return Triplets(rows, rows, rows, none, none, candidates=0)
    kept = torch.cat(found)
    return Triplets(
        own[rows][kept],
        positives[kept],
        torch.cat(negatives)[kept],
        to_positive[kept],
        torch.cat(distances)[kept],
        candidates=len(rows),
    )


def _nearest(allowed: Tensor, distances: Tensor) -> Tensor:
    """int64 [T]: in each row, the allowed column with the least distance."""
    return distances.masked_fill(~allowed, math.inf).argmin(dim=1)


def _random(allowed: Tensor, draws: Tensor) -> Tensor:
    """int64 [T]: in each row, one allowed column, chosen by ``draws`` [T] in [0, 1)."""
    running = allowed.cumsum(dim=1)
    counts = running[:, -1]
    skipped = (draws * counts).long().clamp_max((counts - 1).clamp_min(0))
    return (running > skipped[:, None]).int().argmax(dim=1)
