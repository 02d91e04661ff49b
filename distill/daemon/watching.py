"""Following a job from the queue and its run folder, whoever runs it."""

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
"""How long a daemon may be away (restarted, say) before following ends."""


class StillGoingError(UserError):
    """The time to wait is over, and a job has not ended."""


def watch(workspace: Workspace, name: str) -> Iterator[JobReport]:
    """The job's report, a few times a second, the last one after its end, or where it has none.

    ``UserError`` where nobody is there to bring it to its end: following never hangs.
    """
    patience = _Patience(workspace)
    # Closed here: a Ctrl-C that comes while garbage is closed is lost.
    with closing(_looks(workspace)) as looks:
        for queue in looks:
            job = None if queue is None else queue.job(name)
            if queue is None or job is None:
                raise unknown_job(name, [] if queue is None else queue.names(), workspace)
            slots, machine = patience.daemon(job)
            told = report(job, surroundings(queue, slots, workspace.runs, [job], machine))
            yield told
            if over(told):
                return
            time.sleep(_LOOK_SECONDS)


def over(job: JobReport) -> bool:
    """Whether nothing more comes of the job by itself."""
    return job.state.ended or job.in_vain


def ends(workspace: Workspace, names: Sequence[str], seconds: float | None) -> Iterator[JobReport]:
    """The last report of each job, one after the other, as soon as it is over.

    ``StillGoingError`` where one has not ended after ``seconds``.
    """
    began = time.monotonic()
    for name in names:
        for job in watch(workspace, name):
            if over(job):
                yield job
            elif seconds is not None and time.monotonic() - began >= seconds:
                raise StillGoingError(f"job {name!r} is still {job.state} after {seconds:g} s")


def _looks(workspace: Workspace) -> Generator[QueueReader | None]:
    """The queue, again and again; where it is read in a copy, in a new one each time."""
    while True:
        with read_queue(workspace) as queue:
            yield queue
            while queue is not None and queue.path.parent == workspace.daemon:
                yield queue


class _Patience:
    """Looks whether somebody moves the job on."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._seen: float | None = None

    def daemon(self, job: Job) -> tuple[int | None, Machine | None]:
        """The slots and the machine of the daemon; without, where none is needed just now."""
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
