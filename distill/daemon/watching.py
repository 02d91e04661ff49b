"""Following a job from the queue and its run folder, independently of what runs it."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon import daemon_lock
from distill.daemon.job import Job
from distill.daemon.machine import Machine
from distill.daemon.opening import read_queue
from distill.daemon.queue_reading import QueueReader
from distill.daemon.refusals import unknown_job
from distill.daemon.reports import JobReport, report
from distill.daemon.runfolder import in_use
from distill.daemon.states import State
from distill.daemon.waiting import surroundings

_LOOK_SECONDS = 0.25
_DAEMON_SECONDS = 5.0
"""How long a daemon may be absent (for example for a restart) before following ends"""


class StillGoingError(UserError):
    """The waiting time is over, and a job has not ended."""


def watch(workspace: Workspace, name: str) -> Iterator[JobReport]:
    """The job's report a few times a second, the last one after it has ended.

    Raises ``UserError`` if nothing will bring it to its end, so that following never hangs.
    """
    patience = _Patience(workspace)
    # Closed explicitly: a Ctrl-C during garbage collection would be lost.
    with closing(_looks(workspace)) as looks:
        for queue in looks:
            job = None if queue is None else queue.job(name)
            if queue is None or job is None:
                raise unknown_job(name, [] if queue is None else queue.names(), workspace)
            slots, machine = patience.daemon(job)
            current = report(job, surroundings(queue, slots, workspace.runs, [job], machine))
            yield current
            if over(current):
                return
            time.sleep(_LOOK_SECONDS)


def over(job: JobReport) -> bool:
    """Whether the job will not change by itself any more."""
    return job.state.ended or job.in_vain


def ends(workspace: Workspace, names: Sequence[str], seconds: float | None) -> Iterator[JobReport]:
    """The last report of each job in turn, as soon as it is over.

    Raises ``StillGoingError`` if one has not ended after ``seconds``.
    """
    began = time.monotonic()
    for name in names:
        for job in watch(workspace, name):
            if over(job):
                yield job
            elif seconds is not None and time.monotonic() - began >= seconds:
                raise StillGoingError(f"job {name!r} is still {job.state} after {seconds:g} s")


def _looks(workspace: Workspace) -> Generator[QueueReader | None]:
    """The queue, again and again; if it must be copied for reading, a new copy each time."""
    while True:
        with read_queue(workspace) as queue:
            yield queue
            while queue is not None and queue.path.parent == workspace.daemon:
                yield queue


class _Patience:
    """Checks that something is advancing the job."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._seen: float | None = None

    def daemon(self, job: Job) -> tuple[int | None, Machine | None]:
        """The slots and the machine of the daemon; empty if none is needed at the moment."""
        daemon = daemon_lock.find(self._workspace)
        if daemon is not None:
            self._seen = time.monotonic()
            return daemon.slots, daemon.machine
        at_work = job.state is State.RUNNING and in_use(self._workspace.runs / job.name)
        if not (at_work or job.state.ended or self._recently()):
            raise UserError(
                f"job {job.name!r} is {job.state} and no daemon is running to continue it; start "
                f"one with `distill serve --background`"
            )
        return None, None

    def _recently(self) -> bool:
        return self._seen is not None and time.monotonic() - self._seen < _DAEMON_SECONDS
