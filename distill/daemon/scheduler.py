"""One step of the daemon's loop: settle what ended, start what is due.

There is no separate recovery: after a crash, the first step of the new daemon finds the running
jobs in the queue and examines them as in every other step.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from curation.errors import UserError
from curation.locks import is_held
from curation.workspace import Workspace
from distill.daemon.attempts import Attempt
from distill.daemon.executor import (
    ALONE,
    GRACE_SECONDS,
    Executor,
    LaunchError,
    LaunchKilledError,
    Liveness,
)
from distill.daemon.job import Job
from distill.daemon.ledger import environment
from distill.daemon.machine import Machine
from distill.daemon.outcome import (
    Outcome,
    judge_displaced,
    judge_exit,
    judge_loss,
    judge_vanished,
)
from distill.daemon.progress import progress_made
from distill.daemon.queue import Judge, Queue
from distill.daemon.records import ExitRecord
from distill.daemon.room import has_room, least_room, room_of
from distill.daemon.runfolder import (
    freeze_provenance,
    freeze_spec,
    keep_halved,
    own_runner_record,
    read_exit_record,
    read_runner_record,
)
from distill.daemon.states import Event, State, TransitionRefusedError
from distill.daemon.troubles import Troubles
from distill.pipeline.steps import LOCK
from distill.run_directory import EXIT, RUNNER, damage, one_line, read_failure, read_waiting

_log = logging.getLogger("distill.daemon")

_OVERTIME_SECONDS = 10.0
"""How long past its grace a runner may take to end a cancelled job before it is killed itself"""


class Scheduler:
    """Advances jobs, ``slots`` at a time."""

    def __init__(
        self,
        queue: Queue,
        executor: Executor,
        runs: Path,
        *,
        slots: int = 1,
        machine: Machine | None = None,
        grace: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``runs`` is the folder of run folders; ``grace`` is that of the executor, in seconds.

        ``machine`` are the resources that jobs share, if the executor does not assign them.
        """
        self._queue = queue
        self._executor = executor
        self._runs = runs
        self._slots = slots
        self._machine = machine
        self._grace = grace
        self._clock = clock
        self._steps = Workspace(runs.parent).steps
        self._troubles = Troubles(_log.error)
        self._losses: dict[Attempt, Judge] = {}
        self._stopped: dict[Attempt, float] = {}
        """When each was first asked to stop, on the monotonic clock"""

    def step(self) -> None:
        """Look at every running job once, then fill the free slots."""
        self._look_at(self._queue.jobs(State.RUNNING))
        self._unblock()
        busy = len(self._queue.names(State.RUNNING))
        while busy < self._slots and (job := self._next()):
            with self._apart(job):
                self._start(job)
            busy += 1
        self._queue.keep_room()

    def _next(self) -> Job | None:
        """Claim a job, unless its start would fail for lack of disk space."""
        room = room_of(self._runs)
        if room.free < least_room(room):
            return None
        return self._queue.claim(self._clock(), self._machine, room.free)

    def look_at(self, name: str) -> None:
        """Look once at one job, if it is running; others are not affected."""
        job = self._queue.job(name)
        if job is not None and job.state is State.RUNNING:
            self._look_at([job])

    def _look_at(self, jobs: list[Job]) -> None:
        running = {self._attempt(job): job for job in jobs}
        for attempt, liveness in self._executor.observe(list(running)).items():
            with self._apart(running[attempt]):
                self._move_on(running[attempt], attempt, liveness)

    def _attempt(self, job: Job) -> Attempt:
        return Attempt(self._runs / job.name, job.attempt, job.attempt_id)

    @contextmanager
    def _apart(self, job: Job) -> Iterator[None]:
        """Report an error of one job once, so that the others continue.

        Errors that a full disk can cause are retried at the next look. A defect would recur, so it
        ends the job.
        """
        try:
            yield
            self._troubles.over(job.name, f"{job.name}: supervised again")
        except (OSError, sqlite3.Error) as error:
            self._report(job, error)
        except Exception as error:
            self._report(job, error)
            self._give_up(job, error)

    def _report(self, job: Job, error: Exception) -> None:
        reason = one_line(f"{type(error).__name__}: {error}")
        self._troubles.met(job.name, f"{job.name}: cannot be supervised: {reason}")

    def _give_up(self, job: Job, error: Exception) -> None:
        """Fail the job as soon as none of its processes is running."""
        reason = f"the daemon cannot supervise it ({type(error).__name__}: {error})"
        outcome = Outcome(event=Event.FAIL, reason=one_line(reason), hint="see the daemon's log")
        try:
            if self._executor.close(self._attempt(job)):
                self._settle(job, lambda cancelled: outcome)
        except Exception as again:
            self._report(job, again)

    def _move_on(self, job: Job, attempt: Attempt, liveness: Liveness) -> None:
        """Settle the job if its attempt is over; an exit record takes precedence."""
        if self._settle_by_record(job, attempt):
            return
        if not job.launched and _has_begun(attempt):
            self._note_launched(job)
        if liveness is Liveness.ALIVE:
            self._stop_if_requested(job, attempt)
        elif liveness is Liveness.UNSTARTED and not (job.launched or _is_to_stop(job)):
            if has_room(self._runs):
                self._start(job)
        elif liveness is Liveness.DISPLACED:
            self._settle_if_cancelled(job)
        elif liveness is Liveness.UNREACHABLE:
            raise OSError(f"it is unknown whether a process works in {attempt.run}")
        else:
            self._end_lost(job, attempt)

    def _note_launched(self, job: Job) -> None:
        self._queue.note_launched(job.name, job.attempt)
        _log.info("%s: attempt %d runs", job.name, job.attempt)

    def _settle_by_record(self, job: Job, attempt: Attempt) -> bool:
        record = read_exit_record(attempt)
        if record is None:
            return False
        failure, waiting = read_failure(attempt.run), read_waiting(attempt.run)
        self._settle(job, lambda cancelled: judge_exit(record, failure, cancelled, waiting))
        return True

    def _end_lost(self, job: Job, attempt: Attempt) -> None:
        """Make sure that nothing of the attempt can run any more, then settle it."""
        # Judged before the folder is closed, which writes a record of its own there.
        loss = self._losses.setdefault(attempt, self._loss(job, attempt))
        if not self._executor.close(attempt):
            return
        # It may have ended properly between reading its record and checking its liveness.
        if not self._settle_by_record(job, attempt):
            self._settle(job, loss)

    def _loss(self, job: Job, attempt: Attempt) -> Judge:
        """The judge for an attempt that left neither a process nor an exit record."""
        if job.launched:
            if not attempt.run.is_dir():
                return partial(judge_vanished, f"the run folder {attempt.run}")
            newest = read_runner_record(attempt.run)
            if newest is None or (newest.name == attempt.name and newest.runner is None):
                return partial(judge_vanished, str(attempt.run / RUNNER))
            if newest.name != attempt.name:
                return judge_displaced
        why = damage(attempt.run / EXIT, ExitRecord)
        return partial(judge_loss, self._executor.rebooted_since(attempt), damage=why)

    def _stop_if_requested(self, job: Job, attempt: Attempt) -> None:
        if not _is_to_stop(job):
            return
        # Not from the time of the request, because clocks can be set.
        since = self._stopped.setdefault(attempt, time.monotonic())
        overdue = time.monotonic() - since > self._grace + _OVERTIME_SECONDS
        self._executor.stop(attempt, kill=overdue or job.forced)

    def _settle_if_cancelled(self, job: Job) -> None:
        """Settle a cancelled job whose folder another job holds, without stopping that one."""
        if _is_to_stop(job):
            self._settle(job, judge_displaced)

    def _unblock(self) -> None:
        """Release jobs that wait for a step that no other job is doing."""
        for job in self._queue.blocked():
            with self._apart(job):
                if not is_held(self._steps / str(job.blocked_by) / LOCK):
                    self._queue.unblock(job.name)

    def _start(self, job: Job) -> None:
        attempt = self._attempt(job)
        try:
            with self._queue.exclusive():
                freeze_spec(attempt.run, job.spec)
                keep_halved(attempt.run, job.halved)
                freeze_provenance(attempt.run, self._queue.provenance(job.name))
            if self._executor.launch(attempt, self._share(job)):
                self._note_launched(job)
        except LaunchKilledError:
            self._end_lost(job, attempt)  # does nothing if it is alive
        except (LaunchError, UserError, OSError) as error:
            if not has_room(self._runs):  # filled up at this moment: not the job's fault
                raise OSError(f"the disk of {self._runs} is full") from None
            reason = one_line(f"cannot start the job: {error}")
            outcome = Outcome(event=Event.FAIL, reason=reason)
            self._executor.close(attempt)
            self._settle(job, lambda cancelled: outcome)

    def _share(self, job: Job) -> Mapping[str, str]:
        """The environment that tells the job its share of the machine."""
        if self._machine is None:
            return ALONE
        gpus = self._queue.gpus().get(job.name, [])
        return environment(gpus, job.demand, self._machine, self._slots)

    def _settle(self, job: Job, judge: Judge) -> None:
        for noted in (self._losses, self._stopped):
            noted.pop(self._attempt(job), None)
        try:
            made = progress_made(self._runs / job.name)
            after = self._queue.settle(job.name, job.attempt, judge, self._clock(), made)
        except TransitionRefusedError:
            return  # another process settled it first
        _log.info("%s: %s%s", job.name, after.state, f" ({after.reason})" if after.reason else "")


def _is_to_stop(job: Job) -> bool:
    return job.cancel_requested_at is not None or job.pause_requested_at is not None


def _has_begun(attempt: Attempt) -> bool:
    record = own_runner_record(attempt)
    return record is not None and record.runner is not None
