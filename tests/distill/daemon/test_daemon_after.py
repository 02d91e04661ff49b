"""Jobs that start after others: `submit --after`, and teachers that are jobs of the queue."""

import json
from pathlib import Path

import pytest
from daemon_under_test import accept
from test_daemon_commands import Ran

from distill.daemon.dependencies import CircleError
from distill.daemon.opening import open_queue
from distill.daemon.outcome import Outcome
from distill.daemon.placing import Placing
from distill.daemon.queue import Queue
from distill.daemon.refusals import ConflictError, UnknownJobError
from distill.daemon.service import JobService
from distill.daemon.states import Event, State
from distill.daemon.submitting import Answer
from tests.distill.daemon.harness import Harness, spec

DONE = Outcome(event=Event.SUCCEED)
FAILED = Outcome(event=Event.FAIL, reason="no")


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path / "queue.sqlite")


@pytest.fixture
def service(harness: Harness) -> JobService:
    return JobService(harness.workspace, open_queue(harness.workspace), accept)


def after(*names: str) -> Placing:
    return Placing(after=names)


def taught_by(*teachers: str, name: str = "student") -> str:
    if len(teachers) == 1:
        return f'name = "{name}"\ncode = ""\n[teacher]\nfrom = "{teachers[0]}"\n'
    members = "".join(f'[[teacher.ensemble]]\nfrom = "{each}"\n' for each in teachers)
    return f'name = "{name}"\ncode = ""\n{members}'


def end(queue: Queue, outcome: Outcome) -> None:
    job = queue.claim(1e6)
    assert job is not None
    queue.settle(job.name, job.attempt, lambda cancelled: outcome, 1e6)


def test_a_job_starts_when_all_that_it_is_after_are_done(queue: Queue) -> None:
    for name in ("a", "b"):
        queue.submit(name, "spec", 0.0)
    queue.submit("last", "spec", 0.0, Placing(priority=9, after=("a", "b", "a")))
    assert queue.after("last") == ["a", "b"]
    assert [job.name for job in (queue.claim(1.0), queue.claim(1.0)) if job] == ["a", "b"]
    for name in ("b", "a"):
        assert queue.claim(1.0) is None
        queue.settle(name, 1, lambda cancelled: DONE, 2.0)
    started = queue.claim(3.0)
    assert started is not None
    assert started.name == "last"


def test_finished_work_is_not_waited_for(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    end(queue, DONE)
    assert queue.submit("b", "spec", 0.0, after("a")).unmet == 0
    queue.submit("a", "another", 0.0)
    job = queue.job("b")
    assert job is not None
    assert job.unmet == 1, "it is to be done anew"


def test_a_failed_job_frees_the_others_when_its_retry_is_done(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.submit("b", "spec", 0.0, after("a"))
    queue.submit("c", "spec", 0.0, after("b"))
    end(queue, FAILED)
    assert queue.claim(1.0) is None
    for name in ("b", "c"):
        root = queue.in_vain(name)
        assert root is not None
        assert (root.name, root.state) == ("a", State.FAILED)
    queue.submit("a", "spec", 2.0)
    assert queue.in_vain("c") is None
    for name in ("a", "b", "c"):
        job = queue.claim(3.0)
        assert job is not None
        assert job.name == name
        queue.settle(name, job.attempt, lambda cancelled: DONE, 3.0)


def test_no_job_waits_for_itself(queue: Queue) -> None:
    with pytest.raises(CircleError, match="'a' cannot be after itself"):
        queue.submit("a", "spec", 0.0, after("a"))
    assert queue.job("a") is None
    queue.submit("a", "spec", 0.0)
    queue.submit("b", "spec", 0.0, after("a"))
    queue.submit("c", "spec", 0.0, after("b"))
    with pytest.raises(CircleError, match="'a' cannot be after 'c', which waits for 'a'"):
        queue.place("a", after("c"), 1.0)
    assert queue.after("a") == []


def test_a_circle_is_found_when_a_job_is_queued_again(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.submit("b", "spec", 0.0, after("a"))
    queue.request_cancel("b", 1.0)
    queue.place("a", after("b"), 2.0)
    with pytest.raises(CircleError, match="'b' cannot be after 'a'"):
        queue.submit("b", "spec", 3.0)
    assert queue.submit("b", "spec", 3.0, after()).state is State.QUEUED


def test_a_new_submit_keeps_its_dependencies_by_default(service: JobService) -> None:
    service.submit("a", spec("a"))
    service.submit("b", spec("b"), placing=after("a"))
    service.cancel("b")
    service.submit("b", spec("b"))
    assert service.queue.after("b") == ["a"]
    assert service.submit("b", spec("b"), placing=after()).answer is Answer.CHANGED
    assert service.submit("b", spec("b"), placing=after()).answer is Answer.ALREADY_QUEUED
    assert service.queue.after("b") == []
    service.submit("b", spec("b"), placing=after("a"))
    service.submit("b", spec("b", "other"), replace=True)
    assert service.queue.after("b") == [], "another spec is another job"


def test_only_known_jobs_can_be_waited_for(service: JobService) -> None:
    service.submit("teacher", spec("teacher"))
    with pytest.raises(UnknownJobError, match="did you mean 'teacher'"):
        service.submit("b", spec("b"), placing=after("techer"))
    with pytest.raises(ConflictError, match="cannot be after itself"):
        service.submit("teacher", spec("teacher"), placing=after("teacher"))
    assert [job.name for job in service.queue.jobs()] == ["teacher"]


@pytest.mark.parametrize("teachers", [("a",), ("a", "b")])
def test_a_teacher_that_is_a_job_is_waited_for(
    service: JobService, teachers: tuple[str, ...]
) -> None:
    for name in teachers:
        service.submit(name, spec(name))
    service.submit("x", spec("x"))
    service.submit("student", taught_by(*teachers), placing=after("x"))
    assert service.queue.after("student") == [*teachers, "x"]
    service.submit("student", taught_by(*teachers), placing=after())
    assert service.queue.after("student") == [*teachers], "it cannot do without"


def test_an_existing_teacher_is_not_waited_for(service: JobService) -> None:
    service.submit("a", spec("a"))
    (service.workspace.runs / "a" / "bundle").mkdir()
    service.submit("student", taught_by("a"))
    service.submit("other", taught_by("by-hand", name="other"))
    assert service.queue.after("student") == service.queue.after("other") == []
    with_file = f'{taught_by("a", name="third")}preprocessing = "ours"\n'
    service.submit("third", with_file)
    assert service.queue.after("third") == []


def test_the_user_sees_what_a_job_waits_for(harness: Harness) -> None:
    runs_long = "import time; time.sleep(100)"
    path = harness.workspace.root.parent / "b.toml"
    path.write_text(spec("b"))
    harness.start()
    harness.submit("a", runs_long)
    harness.submit("b", after=("a",))
    harness.wait_for("a", State.RUNNING)
    (harness.run("a") / "progress.json").write_text(
        '{"step": "teach", "done": 1, "total": 9, "seconds_left": 60, "job_seconds_left": 7200}'
    )
    assert (
        "b: after a, which is running, about 2 h left\n" in Ran(harness.workspace, "status").stdout
    )
    harness.submit("free")
    waits = json.loads(Ran(harness.workspace, "status", "free", "--json").stdout)["waiting_for"]
    assert waits == "a slot: 1 of 1 taken by a, one for about 2 h more"
    harness.submit("c", after=("b",))
    told = json.loads(Ran(harness.workspace, "status", "c", "--json").stdout)
    assert (told["after"], told["waiting_for"]) == (["b"], "after b, which is queued")
    Ran(harness.workspace, "cancel", "a")
    told = Ran(harness.workspace, "status").stdout
    assert "b: after a, which was cancelled: `distill retry a`\n" in told
    assert "c: after b, which waits for a, which was cancelled: `distill retry a`\n" in told
    for command in (["wait", "c"], ["watch", "b"], ["wait", "b", "--json"]):
        ran = Ran(harness.workspace, *command)
        assert ran.status == 1
        assert "`distill retry a`" in ran.stdout + ran.stderr


def test_the_order_of_a_pipeline_is_kept_by_the_daemon(harness: Harness) -> None:
    writes = "import pathlib, sys; run = pathlib.Path(sys.argv[1])\n"
    writes += "with (run.parent / 'order.txt').open('a') as f: f.write(run.name + ' ')"
    harness.submit("a", writes)
    harness.submit("b", writes, after=("a",), priority=5)
    harness.submit("c", writes, after=("a", "b"), priority=9)
    harness.start(slots=3)
    assert Ran(harness.workspace, "wait", "c").status == 0
    assert (harness.workspace.runs / "order.txt").read_text() == "a b c "
