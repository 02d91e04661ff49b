"""The ranks of a training: the rank of this process, and collective operations.

Without a process group, this process is the only rank. The loop communicates over the CPU (gloo)
even if gradients travel over NCCL, so that it never waits for a GPU.
"""

import pickle
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from curation.errors import UserError
from distill.ranks import rank, world_size
from teachers.embedder import gpu_number

T = TypeVar("T")
PATIENCE = timedelta(days=100)
"""How long ranks wait for work on rank 0 only, such as an evaluation or an export"""
FAREWELL = timedelta(seconds=10)


def device() -> torch.device:
    """This rank's GPU on its machine, or the CPU if there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", gpu_number())


@contextmanager
def process_group(timeout: timedelta | None = None) -> Iterator[None]:
    """Join the group that the environment of torchrun or another launcher describes.

    ``timeout`` applies to one collective; torch's default if omitted.
    """
    place = device()
    if place.type == "cuda":
        torch.cuda.set_device(place)
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timeout)
    yield
    # The last files must be on disk before any rank leaves. After an error no rank waits.
    dist.barrier()
    dist.destroy_process_group()


def on_first_rank(work: Callable[[], T]) -> T:
    """Run ``work`` on rank 0 and return its result, or raise its error, on all ranks.

    The others wait without a limit. The result must be small and picklable.
    """
    if world_size() == 1:
        return work()
    group = _group(PATIENCE)
    outcome = [_outcome(work) if rank() == 0 else None]
    dist.broadcast_object_list(outcome, group=group)
    dist.destroy_process_group(group)
    assert outcome[0] is not None
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


def on_all_ranks(work: Callable[[], T]) -> list[T]:
    """Run ``work`` on all ranks; returns all results in rank order, or raises the first error.

    Ranks wait for each other without a limit. The results must be picklable.
    """
    if world_size() == 1:
        return [work()]
    group = _group(PATIENCE)
    outcomes: list[Any] = [None] * world_size()
    dist.all_gather_object(outcomes, _outcome(work), group=group)
    dist.destroy_process_group(group)
    for _, error in outcomes:
        if error is not None:
            raise error
    return [value for value, _ in outcomes]


def _group(timeout: timedelta) -> dist.ProcessGroup:
    """A group of all ranks with this timeout."""
    group = dist.new_group(backend="gloo", timeout=timeout)
    assert isinstance(group, dist.ProcessGroup), "every rank is in it"
    return group


def only_on_first_rank(work: Callable[[], T]) -> T | None:
    """Run ``work`` on rank 0 and return its result there; its error is raised on all ranks."""
    made: list[T] = []
    on_first_rank(lambda: made.append(work()))
    return made[0] if made else None


def _outcome(work: Callable[[], T]) -> tuple[Any, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, _portable(error)


def _portable(error: Exception) -> Exception:
    """The error, or an equivalent one that can be pickled for another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        kind = UserError if isinstance(error, UserError) else RuntimeError
        return kind(str(error))
    return error


class Machines:
    """The ranks of several machines, as a ``teachers.team.Team``; they wait without a limit."""

    def __init__(self) -> None:
        self.rank, self.ranks = rank(), world_size()
        self._group = _group(PATIENCE)

    def from_first(self, value: Any) -> Any:
        values = [_portable(value) if isinstance(value, Exception) else value]
        dist.broadcast_object_list(values, group=self._group)
        return values[0]

    def to_first(self, value: Any) -> list[Any] | None:
        values: list[Any] | None = [None] * self.ranks if self.rank == 0 else None
        own = _portable(value) if isinstance(value, Exception) else value
        dist.gather_object(own, values, group=self._group)
        return values


def several_machines() -> Machines | None:
    """All ranks, if they run on several machines; ``None`` if they run on one."""
    if world_size() == 1:
        return None
    names: list[Any] = [None] * world_size()
    dist.all_gather_object(names, platform.node(), group=_group(PATIENCE))
    return Machines() if len(set(names)) > 1 else None


def wait_for_all() -> None:
    """Wait until every rank is here, for example for a checkpoint that rank 0 writes."""
    if world_size() > 1:
        dist.barrier()


def leave_together() -> None:
    """Wait briefly for the others, because a launcher kills the rest when the first rank exits."""
    if world_size() > 1:
        with suppress(RuntimeError):  # another rank has already exited
            dist.monitored_barrier(_group(FAREWELL), FAREWELL)


def is_lost_rank(error: Exception) -> bool:
    """Whether the error is a lost connection to another rank, whose own error is the cause."""
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


def sum_over_ranks(count: int) -> int:
    """The sum of ``count`` over all ranks."""
    if world_size() == 1:
        return count
    total = torch.tensor(count)
    dist.all_reduce(total)
    return int(total)


def any_rank(flag: bool) -> bool:
    """Whether ``flag`` is true on at least one rank."""
    if world_size() == 1:
        return flag
    count = torch.tensor(int(flag))
    dist.all_reduce(count, dist.ReduceOp.MAX)
    return bool(count)


def mean_over_ranks(values: Mapping[str, Tensor]) -> dict[str, float]:
    """Means of scalars over the ranks' equal shares of the batch."""
    stacked = torch.stack([value.detach().float() for value in values.values()]).cpu()
    if world_size() > 1:
        dist.all_reduce(stacked)
        stacked /= world_size()
    return dict(zip(values, stacked.tolist(), strict=True))


def range_over_ranks(low: Tensor, high: Tensor) -> tuple[list[float], list[float]]:
    """The smallest of ``low`` [n] and the largest of ``high`` [n] over all ranks."""
    # The minimum is computed as a negated maximum, in the same collective.
    both = torch.stack([-low, high]).cpu()
    if world_size() > 1:
        dist.all_reduce(both, dist.ReduceOp.MAX)
    return (-both[0]).tolist(), both[1].tolist()


def from_first_rank(value: Any) -> Any:
    """The ``value`` of rank 0; small and picklable."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def seed_step(seed: int, step: int) -> None:
    """Seed torch from (seed, step, rank), so that checkpoints need no random state."""
    mixed = (seed * 1_000_003 + step) * 65_537 + rank()
    torch.manual_seed(mixed % 2**63)
