"""Why a queued job does not run yet, in words to act on."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.progress import spoken
from distill.daemon.dependencies import Ahead
from distill.daemon.job import Job
from distill.daemon.ledger import Shares
from distill.daemon.machine import Gpu, Machine
from distill.daemon.queue_reading import QueueReader
from distill.daemon.room import Room, least_room, room_of
from distill.daemon.states import State
from distill.resources import in_gigabytes
from distill.run_directory import read_progress

MOST_NAMED = 5
"""Maximum number of other jobs that a reason names"""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the start of queued jobs depends on besides the jobs themselves."""

    running: Sequence[str]
    """The names of the jobs that hold slots"""
    slot_in: float | None
    """Seconds until the first of them ends, if any of them estimates it"""
    slots: int | None
    """``None`` if no daemon runs"""
    drained: bool
    ahead: Mapping[str, Sequence[Ahead]]
    """The dependencies of each job that has any"""
    in_vain: Mapping[str, Ahead]
    """The failed or cancelled job that each job waits for, directly or indirectly"""
    runs: Path
    """The folder of run folders"""
    room: Room
    """Free space of its disk"""
    gpus: Mapping[str, Sequence[Gpu]]
    """The GPUs that running jobs hold"""
    shares: Shares | None
    """The assignment of the machine's resources; ``None`` if no daemon assigns them"""
    now: float


def surroundings(
    queue: QueueReader,
    slots: int | None,
    runs: Path,
    jobs: Iterable[Job],
    machine: Machine | None = None,
) -> Surroundings:
    """The current surroundings of these jobs, for a daemon with ``slots`` on a ``machine``."""
    jobs, now, room = list(jobs), time.time(), room_of(runs)
    waiting = [job for job in jobs if job.state is State.QUEUED and job.unmet]
    running = queue.names(State.RUNNING)
    doomed = {job.name: queue.in_vain(job.name) for job in waiting}
    return Surroundings(
        running=running,
        slot_in=min(filter(None, (_seconds_left(runs / name) for name in running)), default=None),
        slots=slots,
        drained=queue.drained_since() is not None,
        ahead=queue.ahead([job.name for job in jobs]),
        in_vain={name: root for name, root in doomed.items() if root is not None},
        runs=runs,
        room=room,
        gpus=queue.gpus(),
        shares=None if machine is None else queue.shares(machine, now, room.free),
        now=now,
    )


def waiting_for(job: Job, around: Surroundings) -> str | None:
    """What a queued job waits for, in words to act on; ``None`` for any other job."""
    if job.state is not State.QUEUED:
        return None
    if job.held:
        return f"held: `distill resume {job.name}`"
    if job.unmet:
        return _jobs_ahead(job, around)
    if around.drained:
        return "the end of the drain: `distill undrain`"
    if around.slots is None:
        return "a daemon: start it with `distill serve --background`"
    if job.blocked_by is not None:
        return job.reason
    if around.now < job.not_before <= around.now + job.back_off:
        return f"its next attempt in {job.not_before - around.now:.0f} s ({job.reason})"
    if len(around.running) >= around.slots:
        taken = f"{len(around.running)} of {around.slots} taken{_by(around.running)}"
        left = "" if around.slot_in is None else f", one for about {spoken(around.slot_in)} more"
        return f"a slot: {taken}{left}"
    return _short(job, around) or "its start"


def _short(job: Job, around: Surroundings) -> str | None:
    """The resources that the machine lacks."""
    if around.room.free < least_room(around.room):
        return f"space on the disk of {around.runs}: free some"
    if around.room.free < job.demand.disk:
        need, free = in_gigabytes(job.demand.disk), in_gigabytes(around.room.free)
        return f"{need} on the disk of {around.runs}, which has {free} free: free some space"
    return None if around.shares is None else around.shares.shortage(job.demand)


def _jobs_ahead(job: Job, around: Surroundings) -> str:
    """The job's unfinished dependencies; if it waits in vain, the one that failed."""
    ahead = around.ahead.get(job.name, ())
    if (root := around.in_vain.get(job.name)) is not None:
        return f"after {_way_to(root, ahead)}, which {_ended(root)}"
    unmet = [other for other in ahead if other.state is not State.DONE]
    jobs = " and ".join(f"{each.name}, which {_state_of(each, around.runs)}" for each in unmet[:2])
    return f"after {jobs}{f' and {len(unmet) - 2} more' if len(unmet) > 2 else ''}"


def _way_to(root: Ahead, ahead: Sequence[Ahead]) -> str:
    if root.name in {other.name for other in ahead}:
        return root.name
    waiting = [other.name for other in ahead if other.state is State.QUEUED]
    return f"{' and '.join(waiting[:2])}, which waits for {root.name}"


def _ended(root: Ahead) -> str:
    how = "failed" if root.state is State.FAILED else "was cancelled"
    return f"{how}: `distill retry {root.name}`"


def _state_of(other: Ahead, runs: Path) -> str:
    """The state of a job that others wait for."""
    if other.state is State.QUEUED:
        return f"is held: `distill resume {other.name}`" if other.held else "is queued"
    left = _seconds_left(runs / other.name)
    return f"is running, about {spoken(left)} left" if left else "is running"


def _seconds_left(run: Path) -> float | None:
    """A running job's own estimate of its remaining time."""
    progress = read_progress(run) or {}
    return progress.get("job_seconds_left") or progress.get("seconds_left")


def _by(running: Sequence[str]) -> str:
    if not running:
        return ""
    more = f" and {len(running) - MOST_NAMED} more" if len(running) > MOST_NAMED else ""
    return f" by {', '.join(running[:MOST_NAMED])}{more}"
