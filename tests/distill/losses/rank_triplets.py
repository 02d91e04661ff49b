"""Mined losses on ranks started by torchrun: ``rank_triplets.py FOLDER``.

Run by test_triplet.py, which calls ``measure`` for one rank directly.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distill.losses import LOSSES, LossInputs
from distill.training import distributed

IDENTITIES = 30
BATCHES = {
    "whole identities": [0, 0, 0, 3, 3, 3, 4, 4, 4, 7, 7, 7],
    "identities across ranks": [0, 1, 2, 0, 3, 4, 0, 1, 2, 5, 6, 4],
    "nothing on the second rank": [0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8],
    "nothing": list(range(12)),
}
LOSSES_OF = {
    f"{name} {mining}": (name, mining)
    for name in ("triplet", "centre_triplet")
    for mining in ("semi-hard", "hardest-semi-hard", "batch-hard")
    if (name, mining) != ("centre_triplet", "batch-hard")
}
Measured = dict[tuple[str, str], tuple[float, dict[str, float], dict[str, Tensor]]]


class Learner(nn.Module):
    """A layer, class weights and a loss."""

    def __init__(self, name: str, mining: str) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layer = nn.Linear(6, 4)
        self.centres = nn.Parameter(torch.randn(IDENTITIES, 4))
        entry = LOSSES[name]
        self.loss = entry.build(entry.settings(mining=mining, margin=0.6), 4, IDENTITIES)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        loss = self.loss(LossInputs(self.layer(images), labels, centres=self.centres))
        return loss + 0.0 * self.centres.sum()  # DDP requires every parameter to be used


def measure() -> Measured:
    """Loss, statistics and gradients of all ranks together, for every loss and batch."""
    rank, ranks = distributed.rank(), distributed.world_size()
    found = {}
    for loss_name, settings in LOSSES_OF.items():
        for batch_name, labels in BATCHES.items():
            learner = Learner(*settings)
            module = DistributedDataParallel(learner) if ranks > 1 else learner
            torch.manual_seed(11)
            images, share = torch.randn(12, 6), 12 // ranks
            own = slice(rank * share, (rank + 1) * share)
            distributed.seed_step(0, 1)
            loss = module(images[own], torch.tensor(labels)[own])
            loss.backward()
            found[loss_name, batch_name] = (
                distributed.mean_over_ranks({"loss": loss})["loss"],
                {name: float(value) for name, value in learner.loss.statistics.items()},
                {name: p.grad for name, p in learner.named_parameters()},
            )
    return found


if __name__ == "__main__":
    with distributed.process_group():
        torch.save(measure(), Path(sys.argv[1]) / f"{distributed.rank()}.pt")
