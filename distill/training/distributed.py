"""The ranks of a training: who this one is, and what all of them agree on.

Without a process group everything here is that of one process alone. What the loop agrees on
travels between CPUs (gloo) also where gradients travel between GPUs (NCCL), so that no GPU is
waited for.
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
"""How long ranks wait for what only the first one does: an evaluation, an export."""
FAREWELL = timedelta(seconds=10)


def device() -> torch.device:
    """The GPU of this rank on its machine, or the CPU where there are none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", gpu_number())


@contextmanager
def process_group(timeout: timedelta | None = None) -> Iterator[None]:
    """Join the group that torchrun's (or another launcher's) environment describes.

    ``timeout`` is that of one exchange, torch's own where left out.
    """
    place = device()
    if place.type == "cuda":
        torch.cuda.set_device(place)
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timeout)
    yield
    # The last files are on the disk before anybody leaves. After an error nobody waits.
    dist.barrier()
    dist.destroy_process_group()


def on_first_rank(work: Callable[[], T]) -> T:
    """What ``work`` gives on rank 0, on all ranks; all raise what it raises there.

    The others wait for as long as it takes. The result must be small and picklable.
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
    """What ``work`` gives on each rank, in their order; all raise what the first that fails raises.

    They wait for each other for as long as it takes. What they give must be picklable.
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
    """All ranks, in a group whose exchanges may take so long."""
    group = dist.new_group(backend="gloo", timeout=timeout)
    assert isinstance(group, dist.ProcessGroup), "every rank is in it"
    return group


def only_on_first_rank(work: Callable[[], T]) -> T | None:
    """What ``work`` gives on rank 0, there alone; all raise what it raises there."""
    made: list[T] = []
    on_first_rank(lambda: made.append(work()))
    return made[0] if made else None


def _outcome(work: Callable[[], T]) -> tuple[Any, Exception | None]:
    try:
        return work(), None
    except Exception as error:
        return None, _portable(error)


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same, as another process can have it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        kind = UserError if isinstance(error, UserError) else RuntimeError
        return kind(str(error))
    return error


class Machines:
    """The ranks of several machines, as a ``teachers.team.Team``; they wait as long as it takes."""

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
    """All ranks, where they are on several machines; ``None`` where they are on one."""
    if world_size() == 1:
        return None
    names: list[Any] = [None] * world_size()
    dist.all_gather_object(names, platform.node(), group=_group(PATIENCE))
    return Machines() if len(set(names)) > 1 else None


def wait_for_all() -> None:
    """Return when every rank is here, as for a checkpoint that rank 0 writes."""
    if world_size() > 1:
        dist.barrier()


def leave_together() -> None:
    """Wait a little for the others: their launcher ends the last ones when the first is gone."""
    if world_size() > 1:
        with suppress(RuntimeError):  # one that is gone already
            dist.monitored_barrier(_group(FAREWELL), FAREWELL)


def is_lost_rank(error: Exception) -> bool:
    """Whether it says that the connection to another rank is gone, which has its own reason."""
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


def sum_over_ranks(count: int) -> int:
    """The sum of what each rank has."""
    if world_size() == 1:
        return count
    total = torch.tensor(count)
    dist.all_reduce(total)
    return int(total)


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
