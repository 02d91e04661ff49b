"""What an ended attempt means for its job. Pure: records in, one outcome out."""

import signal
from dataclasses import dataclass, replace

from distill.daemon.records import ExitRecord, Stop
from distill.daemon.states import Event
from distill.run_directory import Failure, Waiting
from distill.signals import FROM_OUTSIDE, RANK_LOST, STEP_BUSY, signal_name

MAXIMUM_ATTEMPTS = 3
"""Maximum starts of one submit before interruptions become a failure"""

BACK_OFF_SECONDS = (2.0, 10.0)
"""Seconds to wait before the second and the third attempt"""

_SHELL_SIGNAL_BASE = 128


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The event caused by an ended attempt, and the message about it."""

    event: Event
    reason: str | None = None
    hint: str | None = None
    exit_status: int | None = None
    delay: float = 0.0
    """Seconds to wait before the next attempt; only with ``Event.INTERRUPT``"""
    blocked_by: str | None = None
    """The step that another job is doing; only with ``Event.WAIT``"""
    disk: int = 0
    """Bytes that must be free before the next attempt"""
    last: bool = False
    """It moves to the end of the queue."""
    out_of_memory: bool = False
    """The next attempt halves its micro-batches; there is only one such attempt."""


def judge_exit(
    record: ExitRecord, failure: Failure | None, cancelled: bool, waiting: Waiting | None = None
) -> Outcome:
    """The outcome of an attempt that left an exit record.

    Success counts even if a cancel came too late; a cancel is never a failure.
    """
    if record.exit_status == 0:
        return Outcome(event=Event.SUCCEED, exit_status=0)
    status = record.exit_status
    if cancelled:
        return Outcome(event=Event.CANCEL, reason="cancelled by the user", exit_status=status)
    if status == STEP_BUSY and waiting is not None:
        return _blocked(waiting)
    if record.stopped is not None:
        return _stopped(record.stopped, status, failure)
    if (number := _signal_of(record)) is not None:
        ended = _ended_by_signal(number, status, failure)
        killed = number == signal.SIGKILL and record.out_of_memory
        return replace(ended, reason=_KILLED_FOR_MEMORY, out_of_memory=True) if killed else ended
    if status == RANK_LOST:
        text = "a rank was lost, perhaps with its machine" if failure is None else failure.reason
        return Outcome(event=Event.INTERRUPT, reason=f"interrupted: {text}", exit_status=status)
    if failure is not None:
        failed = Outcome(
            event=Event.FAIL, reason=failure.reason, hint=failure.hint, exit_status=status
        )
        if not failure.out_of_memory:
            return failed
        reason = f"interrupted: {failure.reason}"
        return replace(failed, event=Event.INTERRUPT, reason=reason, out_of_memory=True)
    reason = record.error or f"the job ended with status {status} and gave no reason"
    return Outcome(event=Event.FAIL, reason=reason, hint=_SEE_LOG, exit_status=status)


def judge_loss(rebooted: bool, cancelled: bool, damage: str | None = None) -> Outcome:
    """The outcome of an attempt that ended without a usable exit record.

    ``damage`` states why an existing record is unusable.
    """
    if cancelled:
        return Outcome(event=Event.CANCEL, reason="cancelled by the user")
    cause = "the machine was restarted" if rebooted else "its runner process was killed"
    if damage is not None:
        cause = f"how it ended is unknown: {damage}"
    return Outcome(event=Event.INTERRUPT, reason=f"interrupted: {cause}")


def judge_displaced(cancelled: bool) -> Outcome:
    """The outcome of an attempt whose run folder another attempt took, perhaps of another queue."""
    if cancelled:
        return Outcome(event=Event.CANCEL, reason="cancelled by the user")
    reason = "interrupted: another attempt, which this queue does not know, ran in its run folder"
    return Outcome(event=Event.INTERRUPT, reason=reason)


def judge_vanished(what: str, cancelled: bool) -> Outcome:
    """The outcome of an attempt whose run folder, or ``what`` of it, disappeared while it ran."""
    if cancelled:
        return Outcome(event=Event.CANCEL, reason="cancelled by the user")
    return Outcome(
        event=Event.FAIL,
        reason=f"{what} was removed, renamed or replaced while the job ran",
        hint="restore it, or change the spec to do without it, and submit the job again: "
        "finished steps are reused",
    )


def paused(outcome: Outcome) -> Outcome:
    """The outcome of an attempt that was asked to pause, which is not an interruption."""
    if outcome.event is not Event.INTERRUPT:
        return outcome
    return Outcome(event=Event.PAUSE, exit_status=outcome.exit_status)


def bounded(outcome: Outcome, interruptions: int, halved: bool = False) -> Outcome:
    """Limit the retries: ``interruptions`` counts earlier ones without progress in between.

    An interruption within the limit gets its back-off; one too many becomes a failure. So does
    running out of memory if micro-batches were already ``halved`` for that reason.
    """
    if outcome.event is not Event.INTERRUPT:
        return outcome
    if outcome.out_of_memory and halved:
        return replace(
            outcome,
            event=Event.FAIL,
            reason=f"{_cause(outcome)}, also with half the images at a time",
            hint=outcome.hint or _LESS_MEMORY,
        )
    if interruptions + 1 >= MAXIMUM_ATTEMPTS:
        return replace(
            outcome,
            event=Event.FAIL,
            reason=f"gave up after {MAXIMUM_ATTEMPTS} attempts without progress; the last was "
            f"{outcome.reason}",
            hint="remove the cause and submit it again: it continues from its last checkpoint",
        )
    return replace(outcome, delay=BACK_OFF_SECONDS[interruptions])


_SEE_LOG = "the end of its log.txt may show why"
_LESS_MEMORY = "lower train.batch_size or raise train.accumulate, and submit again"
_KILLED_FOR_MEMORY = "interrupted: killed by the kernel because the machine ran out of memory"


def _cause(outcome: Outcome) -> str:
    return (outcome.reason or "").removeprefix("interrupted: ")


def _stopped(stop: Stop, status: int | None, failure: Failure | None) -> Outcome:
    """The outcome of a stop by the runner's guards."""
    if stop.fail:
        hint = "raise it and submit again: it continues from its last checkpoint"
        return Outcome(event=Event.FAIL, reason=stop.reason, hint=hint, exit_status=status)
    own = f" ({failure.reason})" if failure is not None else ""
    return Outcome(
        event=Event.INTERRUPT,
        reason=f"interrupted: {stop.reason}{own}",
        exit_status=status,
        disk=stop.disk,
        last=stop.why == "time",
        out_of_memory=stop.why == "memory",
    )


def _blocked(waiting: Waiting) -> Outcome:
    """The job waits, without counting an interruption, until no other job is doing the step."""
    by = f"job {waiting.job}" if waiting.job else "another job"
    reason = f"shares the step {waiting.name} with {by}, which is running it"
    return Outcome(event=Event.WAIT, reason=reason, blocked_by=waiting.step)


def _signal_of(record: ExitRecord) -> int | None:
    """The signal that ended the job, even if a handler turned it into 128 + N."""
    if record.signal is not None:
        return record.signal
    status = record.exit_status or 0
    number = status - _SHELL_SIGNAL_BASE
    return number if number in FROM_OUTSIDE else None


def _ended_by_signal(number: int, status: int | None, failure: Failure | None) -> Outcome:
    """``status`` is set if the job itself reported the signal, for example one of its ranks'."""
    name = signal_name(number)
    if number in FROM_OUTSIDE:
        cause = f"interrupted: ended by {name}"
        if number == signal.SIGKILL:
            cause += " (a kill -9, or the machine ran out of memory)"
        if status is not None and failure is not None:
            cause = f"interrupted: {failure.reason}"
        return Outcome(event=Event.INTERRUPT, reason=cause, exit_status=status)
    reason = f"the job crashed with {name}"
    return Outcome(event=Event.FAIL, reason=reason, hint=_SEE_LOG, exit_status=status)
