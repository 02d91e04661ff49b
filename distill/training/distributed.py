"""The ranks of a training: who this one is, and what all of them agree on.

Without a process group everything here is that of one process alone. What the loop agrees on
travels between CPUs (gloo) also where gradients travel between GPUs (NCCL), so that no GPU is
waited for.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from distill.ranks import rank, world_size


def device() -> torch.device:
    """The GPU of this rank on its machine, or the CPU where there are none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


@contextmanager
def process_group() -> Iterator[None]:
    """Join the group that torchrun's (or another launcher's) environment describes."""
    place = device()
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo")
    yield
    # The last checkpoint is on the disk before anybody leaves. After an error nobody waits.
    dist.barrier()
    dist.destroy_process_group()


def any_rank(flag: bool) -> bool:
    """Whether it is true of at least one rank."""
    if world_size() == 1:
        return flag
    count = torch.tensor(int(flag))
    dist.all_reduce(count, dist.ReduceOp.MAX)
    return bool(count)


def mean_over_ranks(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars of the ranks' equal shares as those of the whole batch."""
    stacked = torch.stack([value.detach().float() for value in values.values()]).cpu()
    if world_size() > 1:
        dist.all_reduce(stacked)
        stacked /= world_size()
    return dict(zip(values, stacked.tolist(), strict=True))


def range_over_ranks(low: Tensor, high: Tensor) -> tuple[list[float], list[float]]:
    """The smallest of ``low`` [n] and the largest of ``high`` [n] of all ranks."""
    # A minimum is a maximum of what is negated, so that one exchange does.
    both = torch.stack([-low, high]).cpu()
    if world_size() > 1:
        dist.all_reduce(both, dist.ReduceOp.MAX)
    return (-both[0]).tolist(), both[1].tolist()


def from_first_rank(value: Any) -> Any:
    """What rank 0 has; small and picklable."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def seed_step(seed: int, step: int) -> None:
    """Torch's random state from (seed, step, rank), so that no checkpoint has to hold it."""
    mixed = (seed * 1_000_003 + step) * 65_537 + rank()
    torch.manual_seed(mixed % 2**63)
