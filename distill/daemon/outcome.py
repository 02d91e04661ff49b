"""What an ended attempt means for its job. Pure: records in, one outcome out."""

import signal
from dataclasses import dataclass, replace

from distill.daemon.states import Event

MAXIMUM_ATTEMPTS = 3
"""How often one submit is started before interruptions become a failure."""

BACK_OFF_SECONDS = (2.0, 10.0)
"""The wait before the second and the third attempt."""

# Sent from outside: an operator, the OOM killer, a shutdown. SIGSEGV, SIGABRT and their kind are
# the job's own fault, and would come again.
_OUTSIDE = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGKILL})
_SHELL_SIGNAL_BASE = 128


@dataclass(frozen=True, kw_only=True)
class ExitRecord:
    """What the runner saw of the end of one attempt (``exit.json``); times in epoch seconds."""

    attempt: int
    exit_status: int | None
    signal: int | None
    error: str | None
    started_at: float
    finished_at: float


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The job's own words on why it failed (``failure.json``)."""

    reason: str
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The event an ended attempt causes, and what to tell people about it."""

    event: Event
    reason: str | None = None
    hint: str | None = None
    exit_status: int | None = None
    delay: float = 0.0
    """Seconds to wait before the next attempt; only with ``Event.INTERRUPT``."""


def judge_exit(record: ExitRecord, failure: Failure | None, cancelled: bool) -> Outcome:
    """The outcome of an attempt that left an exit record.

    Success counts even after a cancel came too late; a cancel is never a failure.
    """
    if record.exit_status == 0:
        return Outcome(event=Event.SUCCEED, exit_status=0)
    status = record.exit_status
    if cancelled:
        return Outcome(event=Event.CANCEL, reason="cancelled by the user", exit_status=status)
    if (number := _signal_of(record)) is not None:
        return _ended_by_signal(number, status)
    if failure is not None:
        return Outcome(
            event=Event.FAIL, reason=failure.reason, hint=failure.hint, exit_status=status
        )
    reason = record.error or f"the job ended with status {status} and did not say why"
    return Outcome(event=Event.FAIL, reason=reason, hint=_SEE_LOG, exit_status=status)


def judge_loss(rebooted: bool, cancelled: bool) -> Outcome:
    """The outcome of an attempt that is gone without an exit record."""
    if cancelled:
        return Outcome(event=Event.CANCEL, reason="cancelled by the user")
    cause = "the machine was restarted" if rebooted else "its runner process was killed"
    return Outcome(event=Event.INTERRUPT, reason=f"interrupted: {cause}")


def bounded(outcome: Outcome, interruptions: int) -> Outcome:
    """Limit the retries: ``interruptions`` counts those before this outcome.

    An interruption within the limit gets its back-off; one too many becomes a failure.
    """
    if outcome.event is not Event.INTERRUPT:
        return outcome
    if interruptions + 1 >= MAXIMUM_ATTEMPTS:
        return replace(
            outcome,
            event=Event.FAIL,
            reason=f"gave up after {MAXIMUM_ATTEMPTS} attempts; the last was {outcome.reason}",
            hint="remove the cause and submit it again: it goes on from its last checkpoint",
        )
    return replace(outcome, delay=BACK_OFF_SECONDS[interruptions])


_SEE_LOG = "the end of its log.txt may tell"


def _signal_of(record: ExitRecord) -> int | None:
    """The signal that ended the job, also where a handler turned it into 128 + N."""
    if record.signal is not None:
        return record.signal
    status = record.exit_status or 0
    number = status - _SHELL_SIGNAL_BASE
    return number if number in _OUTSIDE else None


def _ended_by_signal(number: int, status: int | None) -> Outcome:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if number in _OUTSIDE:
        cause = f"interrupted: ended by {name}"
        if number == signal.SIGKILL:
            cause += " (somebody's kill -9, or the machine had no memory left)"
        return Outcome(event=Event.INTERRUPT, reason=cause, exit_status=status)
    reason = f"the job crashed with {name}"
    return Outcome(event=Event.FAIL, reason=reason, hint=_SEE_LOG, exit_status=status)
