"""What users and programs see of a job: the queue's row and the run folder in one model.

A run started by hand has a folder but no row; the report shows what its folder contains.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from distill.daemon.attempts import Attempt
from distill.daemon.job import Job
from distill.daemon.listing import Wanted
from distill.daemon.queue_reading import QueueReader
from distill.daemon.runfolder import pending_for
from distill.daemon.stalls import stall
from distill.daemon.states import State
from distill.daemon.waiting import Surroundings, waiting_for
from distill.run_directory import read_progress, steps_now

_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Epoch seconds of the years 1 to 9999"""


class JobReport(BaseModel):
    """One job, as in `distill status --json` and the API; times are ISO 8601 in UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    state: State
    attempt: int
    priority: int
    """Higher starts first"""
    held: bool
    label: str
    after: list[str]
    """The jobs that must be done before it starts"""
    cancel_requested: bool
    pause_requested: bool
    reason: str | None
    """Why it failed; for a queued or running job, why the previous attempt was interrupted"""
    hint: str | None
    waiting_for: str | None
    """What a queued job waits for, or why a running job's cluster has not started it"""
    in_vain: bool
    """A dependency of the queued job failed or was cancelled, so it never starts by itself"""
    exit_status: int | None
    submitted_at: str
    started_at: str | None
    finished_at: str | None
    stalled: str | None
    """That a running job has been silent for longer than its spec allows"""
    gpus: list[int]
    """The numbers of a running job's GPUs"""
    steps: list[dict[str, Any]]
    progress: dict[str, Any] | None

    @property
    def waiting_words(self) -> str:
        """``waits for a slot``, or ``after NAME``; empty if it waits for nothing."""
        waits = self.waiting_for or ""
        is_clause = self.held or waits.startswith(("after ", "shares "))
        return waits if is_clause or not waits else f"waits for {waits}"


class ReportPage(BaseModel):
    """A page of jobs. Jobs that are running or failed recently are on every page, first."""

    model_config = ConfigDict(frozen=True)

    jobs: list[JobReport]
    page: int
    pages: int
    total: int
    """The number of matching jobs on all pages"""
    counts: dict[State, int]
    """The number of jobs in each state, among those with the requested label"""


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
        after=[other.name for other in around.ahead.get(job.name, ())],
        cancel_requested=job.cancel_requested_at is not None,
        pause_requested=job.pause_requested_at is not None,
        reason=job.reason,
        hint=job.hint,
        waiting_for=waiting_for(job, around) or _pending(job, run),
        in_vain=job.name in around.in_vain,
        exit_status=job.exit_status,
        submitted_at=iso(job.submitted_at),
        started_at=None if job.started_at is None else iso(job.started_at),
        finished_at=None if job.finished_at is None else iso(job.finished_at),
        stalled=stall(_attempt(job, run), job.spec) if job.state is State.RUNNING else None,
        gpus=[gpu.number for gpu in around.gpus.get(job.name, [])],
        # Avoids twenty thousand lookups of missing files for ten thousand jobs that never started.
        steps=steps_now(run, job.state is State.RUNNING) if begun else [],
        progress=read_progress(run) if begun else None,
    )


def _pending(job: Job, run: Path) -> str | None:
    if job.state is not State.RUNNING or job.launched:
        return None
    return pending_for(_attempt(job, run))


def _attempt(job: Job, run: Path) -> Attempt:
    return Attempt(run, job.attempt, job.attempt_id)


def iso(seconds: float) -> str:
    """A time in epoch seconds as ISO 8601 in UTC, clamped to the years of the calendar."""
    within = min(max(seconds, _FIRST_SECOND), _LAST_SECOND)
    return datetime.fromtimestamp(within, UTC).isoformat(timespec="seconds")


def report_page(
    queue: QueueReader, wanted: Wanted, around: Callable[[list[Job]], Surroundings]
) -> ReportPage:
    """A page of the queue; ``around`` provides what the jobs on it depend on."""
    jobs, listed = queue.page(wanted)
    surroundings = around(jobs)
    return ReportPage(
        jobs=[report(job, surroundings) for job in jobs],
        page=wanted.page,
        pages=listed.pages,
        total=listed.total,
        counts=listed.counts,
    )
