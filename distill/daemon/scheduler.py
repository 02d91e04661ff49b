"""The loop's one step: settle what ended, start what is due.

There is no separate recovery: after a crash the new daemon's first step finds the running jobs in
the queue and looks at them as at every other time.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from distill.daemon.executor import (
    GRACE_SECONDS,
    Attempt,
    Executor,
    LaunchError,
    Liveness,
    rebooted_since,
)
from distill.daemon.outcome import Outcome, judge_exit, judge_loss
from distill.daemon.queue import Job, Judge, Queue
from distill.daemon.room import has_room
from distill.daemon.runfolder import FolderInUseError, freeze_spec, read_exit_record, read_failure
from distill.daemon.states import Event, State, TransitionRefusedError

_log = logging.getLogger("distill.daemon")

_OVERTIME_SECONDS = 10.0
"""How long past its grace a runner may take to end a cancelled job, before it is killed itself."""


class Scheduler:
    """Moves jobs on, ``slots`` at a time."""

    def __init__(
        self,
        queue: Queue,
        executor: Executor,
        runs: Path,
        *,
        slots: int = 1,
        grace: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """``runs`` is the folder of run folders; ``grace`` that of the executor, in seconds."""
        self._queue = queue
        self._executor = executor
        self._runs = runs
        self._slots = slots
        self._grace = grace
        self._clock = clock

    def step(self) -> None:
        """Look at every running job once, then fill the free slots."""
        self._look_at(self._queue.jobs(State.RUNNING))
        busy = len(self._queue.jobs(State.RUNNING))
        while busy < self._slots and (job := self._next()):
            self._start(job)
            busy += 1

    def _next(self) -> Job | None:
        """Claim a job, unless a start would fail for want of room on the disk."""
        return self._queue.claim(self._clock()) if has_room(self._runs) else None

    def look_at(self, name: str) -> None:
        """Look once at one job, if it is running; others are left alone."""
        job = self._queue.job(name)
        if job is not None and job.state is State.RUNNING:
            self._look_at([job])

    def _look_at(self, jobs: list[Job]) -> None:
        running = {self._attempt(job): job for job in jobs}
        for attempt, liveness in self._executor.observe(list(running)).items():
            self._move_on(running[attempt], attempt, liveness)

    def _attempt(self, job: Job) -> Attempt:
        return Attempt(self._runs / job.name, job.attempt)

    def _move_on(self, job: Job, attempt: Attempt, liveness: Liveness) -> None:
        """Settle the job if its attempt is over; the exit record, where there is one, wins."""
        if self._settle_by_record(job, attempt):
            return
        if liveness is Liveness.ALIVE:
            self._stop_if_cancelled(job, attempt)
        elif liveness is Liveness.UNSTARTED and job.cancel_requested_at is None:
            self._start(job)
        elif liveness is not Liveness.UNREACHABLE and self._executor.close(attempt):
            self._settle_lost(job, attempt)

    def _settle_by_record(self, job: Job, attempt: Attempt) -> bool:
        record = read_exit_record(attempt.run, attempt.number)
        if record is None:
            return False
        failure = read_failure(attempt.run)
        self._settle(job, lambda cancelled: judge_exit(record, failure, cancelled))
        return True

    def _settle_lost(self, job: Job, attempt: Attempt) -> None:
        """Nothing of the attempt lives, and nothing can come of it any more."""
        # It may have ended properly between the looks at its record and at its life.
        if not self._settle_by_record(job, attempt):
            rebooted = rebooted_since(attempt)
            self._settle(job, lambda cancelled: judge_loss(rebooted, cancelled))

    def _stop_if_cancelled(self, job: Job, attempt: Attempt) -> None:
        if job.cancel_requested_at is None:
            return
        overdue = self._clock() - job.cancel_requested_at > self._grace + _OVERTIME_SECONDS
        self._executor.stop(attempt, kill=overdue)

    def _start(self, job: Job) -> None:
        attempt = self._attempt(job)
        try:
            with self._queue.exclusive():
                freeze_spec(attempt.run, job.spec)
            self._executor.launch(attempt)
            _log.info("%s: attempt %d runs", job.name, job.attempt)
        except (LaunchError, FolderInUseError, OSError) as error:
            outcome = Outcome(event=Event.FAIL, reason=f"the job cannot be started: {error}")
            self._executor.close(attempt)
            self._settle(job, lambda cancelled: outcome)

    def _settle(self, job: Job, judge: Judge) -> None:
        try:
            after = self._queue.settle(job.name, job.attempt, judge, self._clock())
        except TransitionRefusedError:
            return  # somebody settled it first
        _log.info("%s: %s%s", job.name, after.state, f" ({after.reason})" if after.reason else "")
