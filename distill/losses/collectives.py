"""Collectives with gradients: the batch of all ranks, for losses that compare images.

Without a process group the batch is that of this process alone.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from distill.ranks import rank, world_size


def own_rows(count: int) -> slice:
    """Where this rank's ``count`` rows lie among those of all ranks, of which all have as many."""
    first = rank() * count
    return slice(first, first + count)


def all_gather(rows: Tensor) -> Tensor:
    """[ranks * B, ...]: ``rows`` [B, ...] of all ranks in their order; with gradient.

    A row's gradient is the sum of what the losses of all ranks say of it. As gradients of weights
    are averaged over ranks, the loss that is minimised is the mean of the ranks' losses.
    """
    return _AllGather.apply(rows) if world_size() > 1 else rows


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum of all ranks' ``values``, without gradient."""
    total = values.detach().clone(memory_format=torch.contiguous_format)
    if world_size() > 1:
        dist.all_reduce(total)
    return total


class _AllGather(torch.autograd.Function):
    """torch.distributed.nn has had this, but it is deprecated there."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        context.own = own_rows(len(rows))
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return all_reduce_sum(gradients[0])[context.own]
