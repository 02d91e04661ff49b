"""What the end of an attempt means."""

import signal

import pytest

from distill.daemon.outcome import (
    BACK_OFF_SECONDS,
    MAXIMUM_ATTEMPTS,
    Outcome,
    bounded,
    judge_exit,
    judge_loss,
)
from distill.daemon.records import ExitRecord
from distill.daemon.states import Event
from distill.run_directory import Failure

NAN = Failure(reason="the loss is NaN", hint="lower the learning rate")


def ended(status: int | None = None, number: int | None = None) -> ExitRecord:
    return ExitRecord(
        attempt=1, exit_status=status, signal=number, error=None, started_at=0.0, finished_at=1.0
    )


@pytest.mark.parametrize(
    ("record", "failure", "cancelled", "event"),
    [
        (ended(0), None, False, Event.SUCCEED),
        (ended(0), None, True, Event.SUCCEED),  # the cancel came too late
        (ended(0), NAN, False, Event.SUCCEED),
        (ended(1), NAN, False, Event.FAIL),
        (ended(1), NAN, True, Event.CANCEL),
        (ended(1), None, False, Event.FAIL),
        (ended(2), None, False, Event.FAIL),
        (ended(143), None, False, Event.INTERRUPT),  # TERM, after a checkpoint
        (ended(130), None, False, Event.INTERRUPT),
        (ended(143), None, True, Event.CANCEL),
        (ended(None, signal.SIGKILL), None, False, Event.INTERRUPT),
        (ended(None, signal.SIGKILL), NAN, False, Event.INTERRUPT),
        (ended(None, signal.SIGKILL), None, True, Event.CANCEL),
        (ended(None, signal.SIGTERM), None, False, Event.INTERRUPT),
        (ended(128 + signal.SIGUSR1), None, False, Event.INTERRUPT),  # a node that just starts
        (ended(None, signal.SIGSEGV), None, False, Event.FAIL),  # it would come again
        (ended(None, signal.SIGABRT), None, False, Event.FAIL),
        (ended(200), None, False, Event.FAIL),
    ],
)
def test_an_exit_record_decides(
    record: ExitRecord, failure: Failure | None, cancelled: bool, event: Event
) -> None:
    assert judge_exit(record, failure, cancelled).event is event


def test_a_failure_speaks_in_the_jobs_own_words() -> None:
    outcome = judge_exit(ended(1), NAN, False)
    assert (outcome.reason, outcome.hint, outcome.exit_status) == (NAN.reason, NAN.hint, 1)


def test_a_failure_without_words_names_the_status_and_the_log() -> None:
    outcome = judge_exit(ended(7), None, False)
    assert "status 7" in str(outcome.reason)
    assert "log" in str(outcome.hint)


@pytest.mark.parametrize(
    ("rebooted", "cancelled", "event", "words"),
    [
        (False, False, Event.INTERRUPT, "killed"),
        (True, False, Event.INTERRUPT, "restarted"),
        (True, True, Event.CANCEL, "cancelled"),
    ],
)
def test_a_lost_attempt_is_interrupted_not_failed(
    rebooted: bool, cancelled: bool, event: Event, words: str
) -> None:
    outcome = judge_loss(rebooted, cancelled)
    assert outcome.event is event
    assert words in str(outcome.reason)


def test_interruptions_are_retried_ever_later_then_given_up() -> None:
    interrupted = judge_loss(rebooted=True, cancelled=False)
    retried = [bounded(interrupted, before) for before in range(MAXIMUM_ATTEMPTS - 1)]
    assert [outcome.event for outcome in retried] == [Event.INTERRUPT] * len(retried)
    assert [outcome.delay for outcome in retried] == list(BACK_OFF_SECONDS)
    given_up = bounded(interrupted, MAXIMUM_ATTEMPTS - 1)
    assert given_up.event is Event.FAIL
    assert "the machine was restarted" in str(given_up.reason)


def test_only_interruptions_are_bounded() -> None:
    failed = Outcome(event=Event.FAIL, reason="no memory")
    assert bounded(failed, 99) is failed
