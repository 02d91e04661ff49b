"""The queue: which job starts next, and how it holds, pauses, cancels and loses jobs."""

from pathlib import Path

import pytest

from curation.errors import UserError
from distill.daemon.outcome import MAXIMUM_ATTEMPTS, Outcome
from distill.daemon.placing import Placing
from distill.daemon.queue import Queue
from distill.daemon.states import Event, State, TransitionRefusedError
from tests.distill.daemon.outcomes import CANCELLED, FAILURE, LOST, SUCCESS


@pytest.fixture
def queue(tmp_path: Path) -> "Queue":
    return Queue(tmp_path / "queue.sqlite")


def test_jobs_start_in_the_order_of_submission(queue: Queue) -> None:
    for name in ("c", "a", "b"):
        queue.submit(name, "spec", 0.0)
    started = [job.name for _ in range(3) if (job := queue.claim(1.0))]
    assert started == ["c", "a", "b"]
    assert queue.claim(1.0) is None


def test_a_higher_priority_starts_first(queue: Queue) -> None:
    for name, priority in {"a": None, "b": -1, "c": 7, "d": 0, "e": 7}.items():
        queue.submit(name, "spec", 0.0, Placing(priority=priority))
    assert [job.name for _ in range(5) if (job := queue.claim(1.0))] == ["c", "e", "a", "d", "b"]


def test_a_held_job_starts_when_resumed(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0, Placing(hold=True, priority=9))
    queue.submit("b", "spec", 0.0)
    queue.pause("b", 1.0)
    queue.pause("b", 1.0)
    assert queue.claim(2.0) is None
    queue.resume("b", 3.0)
    queue.resume("b", 3.0)
    claimed = queue.claim(4.0)
    assert claimed is not None
    assert claimed.name == "b"
    events = [line.event for line in queue.history("b")]
    assert events == [Event.SUBMIT, Event.PAUSE, Event.RESUME, Event.START]
    queue.settle("b", 1, lambda cancelled: SUCCESS, 5.0)
    for move in (queue.pause, queue.resume):
        with pytest.raises(TransitionRefusedError, match="a done job cannot"):
            move("b", 6.0)


def test_a_paused_attempt_is_not_an_interruption(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    for attempt in range(1, MAXIMUM_ATTEMPTS + 3):
        assert queue.claim(1.0) is not None
        queue.pause("a", 2.0)
        queue.pause("a", 3.0)
        job = queue.settle("a", attempt, lambda cancelled: LOST, 4.0)
        assert (job.state, job.held, job.interruptions, job.reason) == (State.QUEUED, True, 0, None)
        assert queue.claim(4.0) is None
        queue.resume("a", 5.0)
    assert [line.event for line in queue.history("a")][:4] == [
        Event.SUBMIT,
        Event.START,
        Event.PAUSE,
        Event.RESUME,
    ]


def test_a_job_resumed_before_it_stopped_starts_again_at_once(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    queue.pause("a", 2.0)
    queue.resume("a", 3.0)
    job = queue.settle("a", 1, lambda cancelled: LOST, 4.0)
    assert (job.state, job.held, job.interruptions) == (State.QUEUED, False, 0)
    again = queue.claim(4.0)
    assert again is not None
    assert (again.attempt, again.pause_requested_at) == (2, None)
    assert queue.settle("a", 2, lambda cancelled: LOST, 5.0).interruptions == 1


@pytest.mark.parametrize(("outcome", "state"), [(SUCCESS, State.DONE), (FAILURE, State.FAILED)])
def test_a_job_that_ends_while_it_is_paused_has_ended(
    queue: Queue, outcome: Outcome, state: State
) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    queue.pause("a", 2.0)
    job = queue.settle("a", 1, lambda cancelled: outcome, 4.0)
    assert (job.state, job.held, job.pause_requested_at) == (state, False, None)


def test_a_cancel_wins_over_a_pause(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    queue.pause("a", 2.0)
    queue.request_cancel("a", 3.0, force=True)
    job = queue.settle("a", 1, lambda cancelled: CANCELLED if cancelled else LOST, 4.0)
    assert (job.state, job.held, job.forced) == (State.CANCELLED, False, True)
    again = queue.submit("a", "spec", 5.0)
    assert not again.forced
    assert again.pause_requested_at is again.cancel_requested_at is None


def test_queued_jobs_are_moved_within_their_priority(queue: Queue) -> None:
    for name in "abcde":
        queue.submit(name, "spec", 0.0)
    queue.submit("urgent", "spec", 0.0, Placing(priority=1))

    def order() -> str:
        jobs = queue.jobs(State.QUEUED)
        return "".join(job.name for job in jobs if not job.priority)

    queue.move_first("c")
    assert order() == "cabde"
    queue.move_last("a")
    assert order() == "cbdea"
    queue.move_before("e", "c")
    assert order() == "ecbda"
    queue.move_before("e", "a")
    assert order() == "cbdea"
    queue.move_before("b", "d")
    assert order() == "cbdea"
    queue.move_last("a")
    queue.move_first("c")
    assert order() == "cbdea"
    assert [job.name for _ in range(3) if (job := queue.claim(1.0))] == ["urgent", "c", "b"]
    queue.submit("f", "spec", 0.0)
    assert order() == "deaf"


def test_a_new_submit_keeps_priority_and_label_and_no_hold(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0, Placing(hold=True, priority=3, label="x"))
    queue.request_cancel("a", 1.0)
    again = queue.submit("a", "spec", 2.0)
    assert (again.held, again.priority, again.label) == (False, 3, "x")
    other = queue.submit("a", "spec", 3.0, Placing(priority=0, label=""))
    assert (other.priority, other.label) == (0, "")


@pytest.mark.parametrize("label", ["a b", "-a", "a\n", "é", "a" * 65, "\x1b[31m", "a|b", "{}"])
def test_a_label_is_one_plain_word(label: str) -> None:
    with pytest.raises(UserError, match="is not a label"):
        Placing(label=label)


@pytest.mark.parametrize("priority", [1001, -1001, 10**5000], ids=["above", "below", "huge"])
def test_a_priority_has_a_range(priority: int) -> None:
    with pytest.raises(UserError, match="between -1000 and 1000"):
        Placing(priority=priority)


def test_an_interrupted_job_waits_before_it_is_due_again(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(10.0)
    waiting = queue.settle("a", 1, lambda cancelled: LOST, 20.0)
    assert waiting.state is State.QUEUED
    assert waiting.not_before > 20.0
    assert queue.claim(20.0) is None
    again = queue.claim(waiting.not_before)
    assert again is not None
    assert again.attempt == 2


def test_a_late_report_from_an_old_attempt_changes_nothing(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    queue.settle("a", 1, lambda cancelled: LOST, 2.0)
    running = queue.claim(1000.0)
    with pytest.raises(TransitionRefusedError, match="is over"):
        queue.settle("a", 1, lambda cancelled: FAILURE, 1001.0)
    assert queue.job("a") == running


def test_a_cancel_between_check_and_decision_is_not_lost(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    queue.request_cancel("a", 2.0)
    after = queue.settle("a", 1, lambda cancelled: CANCELLED if cancelled else LOST, 3.0)
    assert after.state is State.CANCELLED


def test_a_running_job_cannot_be_submitted_again(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    with pytest.raises(TransitionRefusedError):
        queue.submit("a", "other", 2.0)
    job = queue.job("a")
    assert job is not None
    assert job.spec == "spec"


def test_a_new_submit_never_reuses_an_attempt_number(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    queue.settle("a", 1, lambda cancelled: FAILURE, 2.0)
    again = queue.submit("a", "spec", 3.0)
    assert (again.state, again.reason, again.interruptions) == (State.QUEUED, None, 0)
    claimed = queue.claim(4.0)
    assert claimed is not None
    assert claimed.attempt == 2
