"""Collectives with gradients, for losses that compare images across ranks.

Without a process group the batch of this process is the whole batch.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from distill.ranks import rank, world_size


def own_rows(count: int) -> slice:
    """The slice of this rank's ``count`` rows among those of all ranks, which have equal counts."""
    first = rank() * count
    return slice(first, first + count)


def all_gather(rows: Tensor) -> Tensor:
    """[ranks * B, ...]: the ``rows`` [B, ...] of all ranks in rank order, with gradient.

    The gradient of a row is the sum of its gradients on all ranks. Since gradients of weights are
    averaged over ranks, training minimises the mean of the ranks' losses.
    """
    return _AllGather.apply(rows) if world_size() > 1 else rows


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum of all ranks' ``values``, in their shape, on every rank; without gradient."""
    total = values.detach().clone(memory_format=torch.contiguous_format)
    if world_size() > 1:
        dist.all_reduce(total)
    return total


class _AllGather(torch.autograd.Function):
    """Replaces the deprecated version in ``torch.distributed.nn``."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        context.own = own_rows(len(rows))
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return all_reduce_sum(gradients[0])[context.own]
