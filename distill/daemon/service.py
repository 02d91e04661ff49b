"""What can be asked of the queue. The HTTP API and the commands without a daemon both call this."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon.job import Job
from distill.daemon.machine import Machine
from distill.daemon.names import SpecCheck
from distill.daemon.placing import AS_BEFORE, Placing, check_label
from distill.daemon.queue import Queue
from distill.daemon.refusals import ConflictError, existing_job, no_circle
from distill.daemon.states import State
from distill.daemon.submitting import Outcome, Prepared, Submission, Submits


class QueueEnd(StrEnum):
    """Where a queued job is moved to, among those of its priority."""

    FIRST = "first"
    LAST = "last"


_STATES_OF = {
    "pause": (State.QUEUED, State.RUNNING),
    "resume": (State.QUEUED, State.RUNNING),
    "move": (State.QUEUED,),
    "retry": (State.FAILED, State.CANCELLED),
}
"""The jobs that each verb is for."""


class JobService:
    """The jobs of one workspace."""

    def __init__(
        self,
        workspace: Workspace,
        queue: Queue,
        check: SpecCheck,
        wake: Callable[[], None] = lambda: None,
        capacity: Callable[[], Machine | None] = lambda: None,
    ) -> None:
        """``wake`` is called when the scheduler has reason to look.

        ``capacity`` says what the jobs share, where anybody here shares that out.
        """
        self.workspace = workspace
        self.queue = queue
        self.capacity = capacity
        self._submits = Submits(workspace, queue, check, capacity)
        self._wake = wake

    def submit(
        self, name: str, spec: str, replace: bool = False, placing: Placing = AS_BEFORE
    ) -> Submission:
        """`submit_all` of one spec, whose text gives the job this ``name``."""
        (submission,) = self.submit_all({name: spec}, replace, placing)
        return submission

    def submit_all(
        self, specs: Mapping[str, str], replace: bool = False, placing: Placing = AS_BEFORE
    ) -> list[Submission]:
        """Queue specs, by the names that their texts give; say where there is nothing to do.

        All of them or none. The same spec again is done already, goes on, or is tried again;
        another spec under a name that is taken needs ``replace``, and the old run folder is set
        aside. A job that is queued already takes the ``placing``. Jobs start after jobs of the
        queue, or among these, that make their teachers. ``UserError`` for a spec that cannot run,
        ``ConflictError`` where the name is in the way, or the job would wait for itself.
        """
        (outcome,) = self.queue_all([self.prepare(specs, replace, placing)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def prepare(
        self, specs: Mapping[str, str], replace: bool = False, placing: Placing = AS_BEFORE
    ) -> Prepared:
        """The first half of `submit_all`, which takes seconds and changes nothing."""
        return self._submits.prepare(specs, replace, placing)

    def queue_all(self, submits: Sequence[Prepared]) -> list[Outcome]:
        """The other half, of several submits at once; what came of each, when it is on the disk."""
        outcomes = self._submits.queue_all(submits)
        self._wake()
        return outcomes

    def pause(self, names: Iterable[str]) -> list[Job]:
        """Keep queued jobs from starting, and have running ones stop after a checkpoint.

        ``ConflictError``, for all, where one has ended or is being cancelled.
        """
        return self._move_all(names, self._pause, "pause")

    def _pause(self, name: str, now: float) -> Job:
        if self.job(name).cancel_requested_at is not None:
            raise ConflictError(f"job {name!r} is being cancelled, and cannot be paused")
        return self.queue.pause(name, now)

    def resume(self, names: Iterable[str]) -> list[Job]:
        """Let paused jobs start (again); ``ConflictError``, for all, where one has ended."""
        return self._move_all(names, self.queue.resume, "resume")

    def move(self, name: str, to: QueueEnd | None = None, before: str | None = None) -> Job:
        """Let a queued job start first or last of its priority, or before another one.

        ``ConflictError`` where one of the two is not queued, or they have different priorities.
        """
        if (to is None) == (before is None):
            raise UserError("choose where to move it: first, last, or before another job")
        with self.queue.exclusive():
            jobs = [self.job(each) for each in (name, before) if each is not None]
            if any(job.state is not State.QUEUED for job in jobs):
                raise ConflictError(_refused(jobs, "move"))
            if before is not None:
                self._move_before(*jobs)
            elif to is QueueEnd.FIRST:
                self.queue.move_first(name)
            else:
                self.queue.move_last(name)
        return self.job(name)

    def _move_before(self, job: Job, other: Job) -> None:
        if job.priority != other.priority:
            raise ConflictError(
                f"job {other.name!r} has the priority {other.priority} and {job.name!r} "
                f"{job.priority}: jobs are moved within one priority; submit {job.name!r} again "
                f"with --priority {other.priority} first"
            )
        if job.name != other.name:
            self.queue.move_before(job.name, other.name)

    def retry(self, names: Iterable[str]) -> list[Job]:
        """Queue failed or cancelled jobs again, under the specs that they were submitted with.

        They were checked then and are not checked again. ``ConflictError``, for all, where one has
        not failed and was not cancelled.
        """
        moved = self._move_all(names, self._submit_again, "retry")
        for job in moved:
            self._submits.show(job.name)
        return moved

    def _submit_again(self, name: str, now: float) -> Job:
        with no_circle():
            return self.queue.submit(name, self.job(name).spec, now)

    def drain(self) -> None:
        """Let no job start; those that run go on."""
        self.queue.drain(time.time())

    def undrain(self) -> None:
        """Let jobs start again."""
        self.queue.undrain()
        self._wake()

    def _move_all(
        self, names: Iterable[str], move: Callable[[str, float], Job], verb: str
    ) -> list[Job]:
        with self.queue.exclusive():
            jobs = [self.job(name) for name in dict.fromkeys(names)]
            if any(job.state not in _STATES_OF[verb] for job in jobs):
                raise ConflictError(_refused(jobs, verb))
            moved = [move(job.name, time.time()) for job in jobs]
        self._wake()
        return moved

    def wake(self) -> None:
        """Have the daemon look at the queue; ``sqlite3.Error`` where that is another file now."""
        with self.queue.exclusive():
            self._wake()

    def job(self, name: str) -> Job:
        """One job; ``UnknownJobError`` where there is none."""
        return existing_job(self.queue, name, self.workspace)

    def cancel(self, names: Iterable[str], force: bool = False) -> list[Job]:
        """Cancel jobs: at once where they wait, soon where they run, not at all where they ended.

        With ``force`` running ones are killed, without time for a checkpoint.
        """
        with self.queue.exclusive():
            jobs = [self.job(name) for name in dict.fromkeys(names)]
            now = time.time()
            cancelled = [self.queue.request_cancel(job.name, now, force) for job in jobs]
        self._wake()
        return cancelled

    def cancel_all(self, label: str | None = None, force: bool = False) -> list[Job]:
        """Cancel all jobs that have not ended, or those with a label."""
        if label is not None:
            check_label(label)
        with self.queue.exclusive():
            left = [job for job in self.queue.jobs(label=label) if not job.state.ended]
            return self.cancel([job.name for job in left], force)


def _refused(jobs: list[Job], verb: str) -> str:
    at_fault = next(job for job in jobs if job.state not in _STATES_OF[verb])
    states = " or ".join(_STATES_OF[verb])
    others = "; the other jobs were not changed" if len(jobs) > 1 else ""
    return f"job {at_fault.name!r} is {at_fault.state}, and {verb} is for {states} jobs{others}"
