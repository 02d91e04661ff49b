"""Submitting again: the result for the same name and spec, in every state."""

import sqlite3

import pytest
from daemon_under_test import accept

from distill.daemon.names import Checked
from distill.daemon.opening import open_queue
from distill.daemon.outcome import Outcome
from distill.daemon.refusals import ConflictError, UnknownJobError
from distill.daemon.runfolder import freeze_spec, frozen_spec, locked
from distill.daemon.service import JobService
from distill.daemon.states import Event, State
from distill.daemon.submitting import Answer
from tests.distill.daemon.harness import Harness, spec

OUTCOMES = {
    State.DONE: Outcome(event=Event.SUCCEED),
    State.FAILED: Outcome(event=Event.FAIL, reason="no"),
    State.CANCELLED: Outcome(event=Event.CANCEL),
}


@pytest.fixture
def service(harness: Harness) -> "JobService":
    return JobService(harness.workspace, open_queue(harness.workspace), accept)


def bring_to(service: JobService, state: State) -> None:
    """A job `a` with the spec `one`, in this state."""
    service.submit("a", spec("a", "one"))
    if state is State.QUEUED:
        return
    job = service.queue.claim(1.0)
    assert job is not None
    if state is not State.RUNNING:
        service.queue.settle("a", job.attempt, lambda cancelled: OUTCOMES[state], 2.0)


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (State.QUEUED, Answer.ALREADY_QUEUED),
        (State.RUNNING, Answer.ALREADY_RUNNING),
        (State.DONE, Answer.ALREADY_DONE),
        (State.FAILED, Answer.AGAIN),
        (State.CANCELLED, Answer.AGAIN),
    ],
)
@pytest.mark.parametrize("replace", [False, True])
def test_submitting_the_same_spec_again_keeps_the_folder(
    service: JobService, state: State, answer: Answer, replace: bool
) -> None:
    bring_to(service, state)
    (service.workspace.runs / "a" / "finished-step").touch()
    submission = service.submit("a", spec("a", "one"), replace)
    assert submission.answer is answer
    assert submission.job.state is (State.QUEUED if answer is Answer.AGAIN else state)
    assert (service.workspace.runs / "a" / "finished-step").exists(), "the run folder is kept"


def test_settings_without_effect_are_part_of_the_answer(harness: Harness) -> None:
    def check(text: str) -> Checked:
        return Checked(warnings=("a loss does nothing",))

    service = JobService(harness.workspace, open_queue(harness.workspace), check)
    assert service.submit("a", spec("a", "one")).warnings == ("a loss does nothing",)
    assert service.submit("a", spec("a", "one")).warnings == ()  # already queued, so not checked


@pytest.mark.parametrize("state", list(State))
def test_another_spec_is_refused_and_nothing_changes(service: JobService, state: State) -> None:
    bring_to(service, state)
    with pytest.raises(ConflictError, match="choose another name"):
        service.submit("a", spec("a", "two"))
    assert service.job("a").spec == spec("a", "one")
    assert frozen_spec(service.workspace.runs / "a") == spec("a", "one")


@pytest.mark.parametrize("state", [State.QUEUED, State.DONE, State.FAILED, State.CANCELLED])
def test_replace_sets_the_old_run_aside(service: JobService, state: State) -> None:
    bring_to(service, state)
    assert service.submit("a", spec("a", "two"), replace=True).answer is Answer.REPLACED
    assert frozen_spec(service.workspace.runs / "a") == spec("a", "two")
    assert frozen_spec(service.workspace.runs / "a.old-1") == spec("a", "one")
    service.submit("a", spec("a", "three"), replace=True)
    assert frozen_spec(service.workspace.runs / "a.old-2") == spec("a", "two")


def test_a_running_job_cannot_be_replaced(service: JobService) -> None:
    bring_to(service, State.RUNNING)
    with pytest.raises(ConflictError, match="is running with another spec"):
        service.submit("a", spec("a", "two"), replace=True)


def test_a_job_that_is_being_cancelled_must_stop_first(service: JobService) -> None:
    bring_to(service, State.RUNNING)
    service.cancel("a")
    with pytest.raises(ConflictError, match="is being cancelled"):
        service.submit("a", spec("a", "one"))


def test_a_done_job_whose_folder_is_gone_is_done_again(service: JobService) -> None:
    bring_to(service, State.DONE)
    (service.workspace.runs / "a" / "spec.toml").unlink()
    assert service.submit("a", spec("a", "one")).answer is Answer.AGAIN


def test_a_run_by_hand_continues_in_the_queue(service: JobService) -> None:
    run = service.workspace.runs / "a"
    freeze_spec(run, spec("a", "one"))
    (run / "finished-step").touch()
    with pytest.raises(ConflictError, match="--replace"):
        service.submit("a", spec("a", "two"))
    assert service.submit("a", spec("a", "one")).answer is Answer.QUEUED
    assert (run / "finished-step").exists()


def test_a_folder_in_use_cannot_be_replaced(service: JobService) -> None:
    run = service.workspace.runs / "a"
    freeze_spec(run, spec("a", "one"))
    with locked(run), pytest.raises(ConflictError, match="in use"):
        service.submit("a", spec("a", "two"), replace=True)
    assert service.queue.jobs() == []


def test_line_ends_of_a_spec_are_kept(service: JobService) -> None:
    text = spec("a").replace("\n", "\r\n")
    service.submit("a", text)
    service.submit("a", text)
    assert (service.workspace.runs / "a" / "spec.toml").read_bytes() == text.encode()
    assert not (service.workspace.runs / "a.old-1").exists()


def test_a_refused_spec_leaves_nothing(harness: Harness) -> None:
    def refuse(text: str) -> None:
        raise ConflictError("no such backbone")

    service = JobService(harness.workspace, open_queue(harness.workspace), refuse)
    with pytest.raises(ConflictError, match="no such backbone"):
        service.submit("a", spec("a"))
    assert service.queue.jobs() == []
    assert not harness.run("a").exists()


def test_an_unknown_job_is_answered_with_the_known_ones(service: JobService) -> None:
    service.submit("known", spec("known"))
    with pytest.raises(UnknownJobError, match="did you mean 'known'"):
        service.job("unknown")


def test_a_full_disk_loses_nothing(service: JobService) -> None:
    """SQLite's own size limit replaces a full disk: the same error at the same places."""
    service.submit("before", spec("before"))
    connection = service.queue._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        service.submit("big", spec("big", "x" * 60_000))
    connection.execute("PRAGMA max_page_count = 1000000")
    assert [job.name for job in service.queue.jobs()] == ["before"]
    assert service.submit("big", spec("big", "x" * 60_000)).answer is Answer.QUEUED
