"""What people and programs see of a job: the queue's row and the run folder in one model.

A run started by hand has a folder and no row; it is shown as far as its folder tells.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from distill.daemon.queue import Job, Queue
from distill.daemon.room import has_room
from distill.daemon.states import State
from distill.run_directory import read_progress, read_steps

MOST_NAMED = 5
"""Running jobs that each waiting one names."""


class JobReport(BaseModel):
    """One job, as `distill status --json` and the API show it; times are ISO 8601 in UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    state: State
    attempt: int
    priority: int
    """Higher starts first"""
    held: bool
    label: str
    cancel_requested: bool
    reason: str | None
    """Why it failed; of a queued or running job, why the attempt before was interrupted."""
    hint: str | None
    waiting_for: str | None
    """Of a queued job, what it waits for."""
    exit_status: int | None
    submitted_at: str
    started_at: str | None
    finished_at: str | None
    steps: list[dict[str, Any]]
    progress: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the start of a queued job depends on beside the job itself."""

    running: Sequence[str]
    """The names of the jobs that hold slots"""
    slots: int | None
    """``None`` where no daemon runs"""
    drained: bool
    runs: Path
    """The folder of run folders"""
    now: float


def surroundings(queue: Queue, slots: int | None, runs: Path) -> Surroundings:
    """As they are now."""
    return Surroundings(
        running=queue.names(State.RUNNING),
        slots=slots,
        drained=queue.drained_since() is not None,
        runs=runs,
        now=time.time(),
    )


def report(job: Job, around: Surroundings) -> JobReport:
    """The report of one job."""
    run, begun = around.runs / job.name, job.attempt > 0
    return JobReport(
        name=job.name,
        state=job.state,
        attempt=job.attempt,
        priority=job.priority,
        held=job.held,
        label=job.label,
        cancel_requested=job.cancel_requested_at is not None,
        reason=job.reason,
        hint=job.hint,
        waiting_for=waiting_for(job, around),
        exit_status=job.exit_status,
        submitted_at=iso(job.submitted_at),
        started_at=None if job.started_at is None else iso(job.started_at),
        finished_at=None if job.finished_at is None else iso(job.finished_at),
        # Ten thousand jobs that never began have twenty thousand files that are not there.
        steps=read_steps(run) if begun else [],
        progress=read_progress(run) if begun else None,
    )


def waiting_for(job: Job, around: Surroundings) -> str | None:
    """What a queued job waits for, in words to act on; ``None`` for any other job."""
    if job.state is not State.QUEUED:
        return None
    if job.held:
        return f"held: `distill release {job.name}`"
    if around.drained:
        return "the end of the drain: `distill undrain`"
    if around.slots is None:
        return "a daemon: start it with `distill serve --background`"
    if job.blocked_by is not None:
        return job.reason
    if around.now < job.not_before <= around.now + job.back_off:
        return f"its next attempt in {job.not_before - around.now:.0f} s ({job.reason})"
    if len(around.running) >= around.slots:
        return f"a slot: {len(around.running)} of {around.slots} taken{_by(around.running)}"
    runs = around.runs
    return "its start" if has_room(runs) else f"room on the disk of {runs}: make some"


def _by(running: Sequence[str]) -> str:
    if not running:
        return ""
    more = f" and {len(running) - MOST_NAMED} more" if len(running) > MOST_NAMED else ""
    return f" by {', '.join(running[:MOST_NAMED])}{more}"


def iso(seconds: float) -> str:
    """A time in epoch seconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
