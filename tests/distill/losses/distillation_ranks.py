"""Losses that need all ranks, on ranks started by torchrun: ``distillation_ranks.py FOLDER``.

Both ranks have images of identity 1, and each has an identity that the other does not have.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F

from distill.losses import LOSSES, LossInputs

NAMES = ("margin_distillation", "triplet_distillation", "pseudo_classes")
LABELS = torch.tensor([0, 1, 1, 1, 1, 2, 2, 1])


def loss(name):
    return LOSSES[name].build(LOSSES[name].settings(), 5, 4)


def shared(rank, ranks):
    """This rank's share of a batch."""
    embeddings, teacher = torch.randn(8, 5), torch.randn(8, 5)
    centres = F.normalize(torch.randn(4, 5))
    share = slice(rank * 8 // ranks, (rank + 1) * 8 // ranks)
    return LossInputs(
        embeddings[share].requires_grad_(), LABELS[share], teacher[share], teacher_centres=centres
    )


def moved_centres(rank, ranks):
    """AdaDistill's centres after two batches."""
    torch.manual_seed(0)
    adadistill = loss("adadistill")
    for _ in range(2):
        adadistill(shared(rank, ranks))
    return adadistill.centres


def queue_of_pseudo_classes(rank, ranks):
    """After two batches."""
    torch.manual_seed(0)
    pseudo_classes = LOSSES["pseudo_classes"].loss(embedding=5, queue=11)
    for _ in range(2):
        pseudo_classes(shared(rank, ranks))
    return pseudo_classes.queue


def loss_and_gradient(name, rank, ranks):
    """The loss ``name``, and its gradient in this rank's embeddings."""
    torch.manual_seed(0)
    inputs = shared(rank, ranks)
    value = loss(name)(inputs)
    value.backward()
    return value.detach(), inputs.embeddings.grad


def assert_the_same(name, on_two_ranks):
    """The mean of two ranks' losses equals the loss of one, with the same gradient."""
    alone, gradient = loss_and_gradient(name, rank=0, ranks=1)
    losses, gradients = zip(*(found[name] for found in on_two_ranks), strict=True)
    torch.testing.assert_close(sum(losses) / 2, alone)
    torch.testing.assert_close(torch.cat(gradients) / 2, gradient)


def main():
    dist.init_process_group("gloo")
    place = dist.get_rank(), dist.get_world_size()
    found = {name: loss_and_gradient(name, *place) for name in NAMES}
    found["centres"] = moved_centres(*place)
    found["queue"] = queue_of_pseudo_classes(*place)
    torch.save(found, Path(sys.argv[1]) / f"{place[0]}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
