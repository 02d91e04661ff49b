"""What the losses on mined triplets share: the batch of all ranks, and the mean over triplets.

Each rank mines for its own images, against the images of all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.losses.all_gather import gather_rows, own_rows, sum_over_ranks
from distill.losses.inputs import LossInputs
from distill.mining import Choice, Triplets, statistics
from distill.ranks import world_size

CHOICES: dict[str, Choice] = {"semi-hard": "random", "hardest-semi-hard": "hardest"}


@dataclass(frozen=True)
class WholeBatch:
    """Unit embeddings [N, D] with gradient and labels int64 [N] of all ranks' images; ``own`` are
    the rows of this rank. ``generator`` is in the same state on all ranks."""

    embeddings: Tensor
    labels: Tensor
    own: slice
    generator: torch.Generator

    @classmethod
    def gather(cls, inputs: LossInputs) -> "WholeBatch":
        labels = inputs.labels
        seed = torch.randint(2**62, (1,), device=labels.device)
        gathered = gather_rows(torch.cat([seed, labels])).view(world_size(), -1)
        return cls(
            gather_rows(inputs.unit_embeddings),
            gathered[:, 1:].flatten(),
            own_rows(len(labels)),
            torch.Generator(labels.device).manual_seed(int(gathered[0, 0])),
        )


def mean_violation(
    embeddings: Tensor, mined: Triplets, to_negative: Tensor, margin: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean of ``max(0, d(a, p) - d(a, n) + margin)``, and the statistics, of all ranks.

    ``embeddings`` are those of the whole batch; ``to_negative`` [T] are the distances to the
    negatives, with gradient. The loss is this rank's part times the number of ranks, so that their
    mean is the loss of all triplets. Without any it is 0, with a gradient of 0.
    """
    to_positive = squared_lengths(embeddings[mined.anchors] - embeddings[mined.positives])
    totals = sum_over_ranks(mined.totals(margin))
    weight = (world_size() / totals[0].clamp_min(1)).to(embeddings.dtype)
    return weight * (to_positive - to_negative + margin).relu().sum(), statistics(totals)


def squared_lengths(vectors: Tensor) -> Tensor:
    """[T] of [T, D]."""
    return vectors.square().sum(dim=1)
