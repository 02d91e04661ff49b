"""Assignment of GPUs, cores and memory to jobs, in tables of the queue.

Every method runs inside the caller's transaction. The tables are valid across daemons: a GPU is
assigned from the claim of an attempt until it is settled, whether or not a daemon is alive.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from distill.daemon.demand import Demand, excess, in_gpus
from distill.daemon.machine import Gpu, Machine
from distill.resources import in_gigabytes

MOST_NAMED = 5
"""Maximum number of jobs that a message names as holders"""


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """Amounts of each kind of resource; memory in bytes."""

    gpus: int
    cpus: int
    memory: int

    @classmethod
    def needed(cls, demand: Demand, machine: Machine) -> "Amounts":
        """The amounts that a job needs on this machine."""
        return cls(gpus=demand.gpus_on(machine), cpus=demand.cpus, memory=demand.memory)

    def short_of(self, need: "Amounts") -> set[str]:
        """The kinds of resources that are insufficient for ``need``."""
        return {kind for kind, held in vars(self).items() if held < getattr(need, kind)}

    def less(self, need: "Amounts") -> "Amounts":
        """What is left after ``need``, at least 0."""
        left = {kind: max(0, held - getattr(need, kind)) for kind, held in vars(self).items()}
        return Amounts(**left)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The job whose turn it is to start."""

    name: str | None
    """``None`` if no job may start"""
    passed: list[str]
    """Earlier jobs that do not fit, at most one per kind of resource"""
    left: Amounts
    """Free amounts that are not reserved for those jobs"""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """The current assignment of the machine's resources."""

    machine: Machine
    free: Amounts
    turn: Turn
    holders: Mapping[str, Sequence[Gpu]]

    def shortage(self, demand: Demand) -> str | None:
        """What a due job waits for, in words to act on; ``None`` if it may start."""
        if (why := excess(demand, self.machine)) is not None:
            return why
        need, free = Amounts.needed(demand, self.machine), self.free
        if need.gpus > free.gpus:
            return f"{in_gpus(need.gpus)}, {_is_free(free.gpus)}{self._held()}"
        if need.cpus > free.cpus:
            return f"{need.cpus} cores, {_is_free(free.cpus)} of {self.machine.cores}"
        if need.memory > free.memory:
            sizes = [in_gigabytes(n) for n in (need.memory, free.memory, self.machine.memory)]
            return f"{sizes[0]} of memory, {sizes[1]} of {sizes[2]} is not reserved by other jobs"
        if self.turn.passed and self.turn.left.short_of(need):
            return f"job {self.turn.passed[0]}, for which free resources are reserved"
        return None

    def _held(self) -> str:
        held = [f"job {name} holds GPU {numbers(of)}" for name, of in self.holders.items()]
        more = f"; and {len(held) - MOST_NAMED} more jobs" if len(held) > MOST_NAMED else ""
        return f": {'; '.join(held[:MOST_NAMED])}{more}" if held else ""


class SharesLedger:
    """The GPUs, cores and memory of one machine, as held by the queue's jobs."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def turn(self, due: str, values: Sequence[object], machine: Machine) -> Turn:
        """The job that may start now, among those that satisfy the condition ``due``.

        Free resources that an earlier job needs are reserved for it, so that smaller jobs cannot
        take them again and again. Jobs that need none of them may pass. A job that can never run
        here blocks no other job.
        """
        left, passed, closed = self.free(machine), list[str](), set[str]()
        columns = {"gpus": _gpus_needed(machine), "cpus": "cpus", "memory": "memory"}
        possible = (
            f"nodes = 1 AND {columns['gpus']} <= {len(machine.gpus)}"
            f" AND cpus <= {machine.cores} AND memory <= {machine.memory}"
        )
        while True:
            without = [f"{columns[kind]} = 0" for kind in closed]
            others = f"name NOT IN ({', '.join('?' * len(passed))})"
            row = self._connection.execute(
                f"SELECT name, {', '.join(columns.values())} FROM jobs INDEXED BY startable"
                f" WHERE {' AND '.join([due, possible, others, *without])}"
                " ORDER BY priority DESC, position LIMIT 1",
                (*values, *passed),
            ).fetchone()
            if row is None:
                return Turn(name=None, passed=passed, left=left)
            need = Amounts(gpus=row[1], cpus=row[2], memory=row[3])
            if not left.short_of(need):
                return Turn(name=row[0], passed=passed, left=left)
            closed |= left.short_of(need)  # grows in every iteration, so the loop ends
            left = left.less(need)
            passed.append(row[0])

    def free(self, machine: Machine) -> Amounts:
        """What no running job holds."""
        cpus, memory = self._connection.execute(
            "SELECT total(cpus), total(memory) FROM jobs WHERE state = 'running'"
        ).fetchone()
        return Amounts(
            gpus=len(self._free_gpus(machine)),
            cpus=max(0, machine.cores - int(cpus)),
            memory=max(0, machine.memory - int(memory)),
        )

    def _free_gpus(self, machine: Machine) -> list[Gpu]:
        if not machine.gpus:
            return []
        (unknown,) = self._connection.execute(
            f"SELECT count(*) FROM jobs WHERE state = 'running' AND {_gpus_needed(machine)} > 0"
            " AND name NOT IN (SELECT job FROM gpus)"
        ).fetchone()
        if unknown:  # started by a version without this table: it may use any GPU
            return []
        taken = {uuid for (uuid,) in self._connection.execute("SELECT uuid FROM gpus")}
        return [gpu for gpu in machine.gpus if gpu.uuid not in taken]

    def take(self, name: str, demand: Demand, machine: Machine) -> None:
        """Assign GPUs to a job that is about to start: the free ones with the lowest numbers."""
        given = self._free_gpus(machine)[: demand.gpus_on(machine)]
        self._connection.executemany(
            "INSERT INTO gpus (uuid, number, job) VALUES (?, ?, ?)",
            [(gpu.uuid, gpu.number, name) for gpu in given],
        )

    def give_back(self, name: str) -> None:
        """Release the resources of a job that no longer runs."""
        self._connection.execute("DELETE FROM gpus WHERE job = ?", (name,))

    def shares(self, due: str, values: Sequence[object], machine: Machine) -> Shares:
        """The current assignment, given the jobs that satisfy ``due``."""
        turn = self.turn(due, values, machine)
        free = self.free(machine)
        return Shares(machine=machine, free=free, turn=turn, holders=self.holders())

    def holders(self) -> dict[str, list[Gpu]]:
        """The GPUs of every job that holds some."""
        rows = self._connection.execute("SELECT job, number, uuid FROM gpus ORDER BY number")
        held: dict[str, list[Gpu]] = {}
        for job, number, uuid in rows.fetchall():
            held.setdefault(job, []).append(Gpu(number=number, uuid=uuid))
        return held


def environment(
    gpus: Sequence[Gpu], demand: Demand, machine: Machine, slots: int
) -> dict[str, str]:
    """The environment that tells a job its share of the machine.

    It gets one thread per core, divided among its ranks. If it states no cores and other jobs may
    run beside it, it gets an equal share of them.
    """
    variables: dict[str, str] = {}
    if gpus or machine.gpus:
        variables["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in gpus)
    ranks = len(gpus) or demand.gpus or demand.ranks or 1
    if demand.cpus:
        variables["OMP_NUM_THREADS"] = str(max(1, demand.cpus // ranks))
    elif slots > 1:
        variables["OMP_NUM_THREADS"] = str(max(1, machine.cores // slots // ranks))
    return variables


def numbers(gpus: Sequence[Gpu]) -> str:
    """``0 to 6, 8``"""
    runs = groupby(enumerate(gpu.number for gpu in gpus), key=lambda each: each[1] - each[0])
    ends = [[number for _, number in run] for _, run in runs]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in ends)


def _gpus_needed(machine: Machine) -> str:
    """``Demand.gpus_on`` in SQL."""
    there = len(machine.gpus)
    return f"coalesce(gpus, min(ranks, {there}), {there})"


def _is_free(count: int) -> str:
    return f"{count or 'none'} {'are' if count > 1 else 'is'} free"
