"""Commands that end jobs and return when they have ended, with or without a daemon."""

import time
from collections.abc import Iterable, Sequence

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon import client, daemon_lock
from distill.daemon.executor import GRACE_SECONDS
from distill.daemon.job import Job
from distill.daemon.queue import Queue
from distill.daemon.refusals import UnknownJobError
from distill.daemon.scheduler import Scheduler
from distill.daemon.states import State

_STOP_SECONDS = GRACE_SECONDS + 30.0
_LOOK_SECONDS = 0.1


def cancel(workspace: Workspace, names: Sequence[str], force: bool = False) -> list[Job]:
    """See `JobService.cancel`; returns the jobs when none of their processes is left."""
    client.find_jobs(workspace, names)
    with client.changing(workspace) as service:
        jobs = service.cancel(names, force)
    return _stopped(workspace, jobs)


def cancel_all(workspace: Workspace, label: str | None, force: bool = False) -> list[Job]:
    """See `JobService.cancel_all`; returns the jobs when none of their processes is left."""
    if not client.names(workspace):
        return []  # creates nothing in an empty workspace
    with client.changing(workspace) as service:
        jobs = service.cancel_all(label, force)
    return _stopped(workspace, jobs)


def pause(workspace: Workspace, names: Sequence[str]) -> list[Job]:
    """See `JobService.pause`; returns the jobs when their attempts have stopped."""
    client.find_jobs(workspace, names)
    with client.changing(workspace) as service:
        jobs = service.pause(names)
    return _stopped(workspace, jobs)


def _stopped(workspace: Workspace, jobs: Sequence[Job]) -> list[Job]:
    running = [job for job in jobs if job.state is State.RUNNING]
    if not running:
        return list(jobs)
    with client.changing(workspace) as service:
        queue, executor = service.queue, client.last_executor(workspace)
        _wait_for_end(workspace, queue, Scheduler(queue, executor, workspace.runs), running)
        return [_there(queue, job.name) for job in jobs]


def _wait_for_end(
    workspace: Workspace, queue: Queue, scheduler: Scheduler, jobs: Sequence[Job]
) -> None:
    """Wait until none of these attempts runs; without a daemon, supervise them from here."""
    deadline = time.monotonic() + _STOP_SECONDS
    while left := [job for job in jobs if _runs(_there(queue, job.name), job.attempt)]:
        if time.monotonic() > deadline:
            names = ", ".join(repr(job.name) for job in left[:5])
            raise UserError(f"not stopped yet: {names}; the request stays in force")
        if daemon_lock.find(workspace) is None:
            _look_at(scheduler, left)
        time.sleep(_LOOK_SECONDS)


def _look_at(scheduler: Scheduler, jobs: Iterable[Job]) -> None:
    for job in jobs:
        scheduler.look_at(job.name)


def _runs(job: Job, attempt: int) -> bool:
    return job.state is State.RUNNING and job.attempt == attempt


def _there(queue: Queue, name: str) -> Job:
    job = queue.job(name)
    if job is None:
        raise UnknownJobError(f"there is no longer a job {name!r}")
    return job
