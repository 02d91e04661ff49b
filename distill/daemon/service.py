"""Operations on the queue, used by the HTTP API and by the commands that need no daemon."""

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
    """Where to move a queued job among those of its priority."""

    FIRST = "first"
    LAST = "last"


_STATES_OF = {
    "pause": (State.QUEUED, State.RUNNING),
    "resume": (State.QUEUED, State.RUNNING),
    "move": (State.QUEUED,),
    "retry": (State.FAILED, State.CANCELLED),
}
"""The jobs that each verb applies to"""


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
        """``wake`` is called when the scheduler has a reason to look.

        ``capacity`` returns the resources that jobs share, if this daemon assigns them.
        """
        self.workspace = workspace
        self.queue = queue
        self.capacity = capacity
        self._submits = Submits(workspace, queue, check, capacity)
        self._wake = wake

    def submit(
        self, name: str, spec: str, replace: bool = False, placing: Placing = AS_BEFORE
    ) -> Submission:
        """`submit_all` for one spec, whose text contains the ``name``."""
        (submission,) = self.submit_all({name: spec}, replace, placing)
        return submission

    def submit_all(
        self, specs: Mapping[str, str], replace: bool = False, placing: Placing = AS_BEFORE
    ) -> list[Submission]:
        """Queue specs, by the names in their texts; reports those that need nothing.

        All of them or none. The same spec again is already done, continues, or is retried. Another
        spec under an existing name needs ``replace``, which sets the old run folder aside. A job
        that is already queued gets the ``placing``. Jobs depend on the jobs that train their
        teachers, in the queue or among these. Raises ``UserError`` for a spec that cannot run,
        ``ConflictError`` if the name is taken or the job would wait for itself.
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
        """The second half, for several submits; returns the result of each, once on disk."""
        outcomes = self._submits.queue_all(submits)
        self._wake()
        return outcomes

    def pause(self, names: Iterable[str]) -> list[Job]:
        """Keep queued jobs from starting, and have running ones stop after a checkpoint.

        Raises ``ConflictError``, for all, if one has ended or is being cancelled.
        """
        return self._move_all(names, self._pause, "pause")

    def _pause(self, name: str, now: float) -> Job:
        if self.job(name).cancel_requested_at is not None:
            raise ConflictError(f"job {name!r} is being cancelled, and cannot be paused")
        return self.queue.pause(name, now)

    def resume(self, names: Iterable[str]) -> list[Job]:
        """Let paused jobs start (again); ``ConflictError``, for all, if one has ended."""
        return self._move_all(names, self.queue.resume, "resume")

    def move(self, name: str, to: QueueEnd | None = None, before: str | None = None) -> Job:
        """Move a queued job to the first or last place of its priority, or before another one.

        Raises ``ConflictError`` if one of them is not queued, or their priorities differ.
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
        """Queue failed or cancelled jobs again, with the specs that were submitted.

        The specs are not checked again. Raises ``ConflictError``, for all, if one has neither
        failed nor been cancelled.
        """
        moved = self._move_all(names, self._submit_again, "retry")
        for job in moved:
            self._submits.show(job.name)
        return moved

    def _submit_again(self, name: str, now: float) -> Job:
        with no_circle():
            return self.queue.submit(name, self.job(name).spec, now)

    def drain(self) -> None:
        """Stop starting jobs; running jobs continue."""
        self.queue.drain(time.time())

    def undrain(self) -> None:
        """Start jobs again."""
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
        """Make the daemon look at the queue; ``sqlite3.Error`` if its file was replaced."""
        with self.queue.exclusive():
            self._wake()

    def job(self, name: str) -> Job:
        """One job; ``UnknownJobError`` if there is none."""
        return existing_job(self.queue, name, self.workspace)

    def cancel(self, names: Iterable[str], force: bool = False) -> list[Job]:
        """Cancel jobs: queued ones at once, running ones soon; ended ones are unchanged.

        With ``force``, running ones are killed without time for a checkpoint.
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
