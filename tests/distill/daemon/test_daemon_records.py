"""A fault in one run folder harms no other job, and ends its own job with a clear message."""

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from test_daemon_commands import Ran, distill
from test_daemon_serve import SLEEP, WAITS

from curation.errors import UserError
from curation.locks import held
from curation.workspace import Workspace
from distill.daemon import client, stopping
from distill.daemon.attempts import Attempt
from distill.daemon.executor import LaunchKilledError, Liveness
from distill.daemon.listing import Wanted
from distill.daemon.opening import open_queue
from distill.daemon.outcome import MAXIMUM_ATTEMPTS, Outcome, judge_loss
from distill.daemon.queue import Queue
from distill.daemon.runfolder import freeze_spec, write_runner_record
from distill.daemon.scheduler import Scheduler
from distill.daemon.schema import MIGRATIONS
from distill.daemon.states import Event, State
from distill.daemon.submitting import Answer
from distill.pipeline.steps import LOCK
from distill.run_directory import EXIT, RUNNER
from distill.signals import STEP_BUSY
from tests.distill.daemon.harness import Harness, is_alive, make_odd, spec, wait_until

FAILS_WITH = """
import pathlib, sys
pathlib.Path(sys.argv[1], {name!r}).write_bytes({content!r})
raise SystemExit(3)
"""
COUNTS = "import sys; open(sys.argv[1] + '/starts', 'a').write('x')"
ENDED_WELL = {"exit_status": 0, "signal": None, "error": None, "started_at": 1, "finished_at": 2}
HALF_A_PAIR = rb'{"reason": "\udcff.jpg cannot be read"}'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("failure.json", HALF_A_PAIR),
        ("failure.json", b'{"reason": Infinity, "hint": "a", "hint": "b"}'),
        ("failure.json", b"[" * 50_000),
        ("steps.json", HALF_A_PAIR),
        ("steps.json", b"\xff\xfe" + b"1" * 30),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_jobs_output_harms_only_itself(harness: Harness, name: str, content: bytes) -> None:
    harness.submit("bad", FAILS_WITH.format(name=name, content=content))
    harness.submit("good", COUNTS)
    harness.start()
    harness.wait_for("good", State.DONE)
    bad = harness.job("bad")
    assert (bad.state, bad.exit_status) == (State.FAILED, 3)
    assert ("failure.json cannot be read" in str(bad.reason)) == (name == "failure.json")
    for command in (["status"], ["status", "--json"], ["show", "bad"], ["show", "bad", "--json"]):
        assert Ran(harness.workspace, *command).status == 0
    assert {each.name for each in client.page(harness.workspace, Wanted()).jobs} == {"bad", "good"}


def test_a_reason_of_half_a_surrogate_pair_can_be_kept(tmp_path: Path) -> None:
    with Queue(tmp_path / "queue.sqlite") as queue:
        queue.submit("a", "spec", 0.0)
        queue.claim(1.0)
        outcome = Outcome(event=Event.FAIL, reason="no \udcff", hint="\ud800")
        job = queue.settle("a", 1, lambda cancelled: outcome, 2.0)
        assert (job.reason, job.hint) == (r"no \udcff", r"\ud800")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (RUNNER, "surrogate"),
        (RUNNER, "endless"),
        (RUNNER, "folder"),
        (EXIT, "true"),
        (EXIT, "deep"),
        (EXIT, "pipe"),
    ],
)
def test_a_damaged_record_of_a_running_job_stops_no_other(
    harness: Harness, name: str, kind: str
) -> None:
    """Written while the job runs, as by a job or a bad disk; the daemon is then restarted."""
    harness.start()
    harness.submit("bad", WAITS)
    harness.wait_for_file("bad", "pid")
    harness.kill(signal.SIGKILL)
    path = harness.run("bad") / name
    path.unlink(missing_ok=True)
    texts = {
        "surrogate": rb'{"attempt": 1, "id": "\ud800"}',
        "endless": b'{"attempt": Infinity, "runner": {"pid": 1e999}, "exit_status": 1' + b"0" * 30,
        "true": b'{"attempt": true, "exit_status": true, "error": {}}',
        "deep": b'{"a":' * 1_000_000,
    }
    if kind in texts:
        path.write_bytes(texts[kind])
    else:
        make_odd(path, kind)
    harness.start()
    harness.submit("good")  # waits for the slot of the bad one
    time.sleep(0.6)
    assert harness.job("bad").state is State.RUNNING, "it is alive: its lock is held"
    cancelled = stopping.cancel(harness.workspace, ["bad"])[0]
    assert cancelled.state is State.CANCELLED
    assert harness.wait_for("good", State.DONE).attempt == 1


@pytest.mark.parametrize("change", [{"exit_status": 10**30}, {"error": {}}, {"signal": 9}])
def test_an_end_that_cannot_be_read_is_an_interruption(
    harness: Harness, change: dict[str, object]
) -> None:
    harness.start()
    harness.submit("a", WAITS)
    harness.wait_for_file("a", "pid")
    harness.kill(signal.SIGKILL)
    (harness.run("a") / "go").touch()
    wait_until((harness.run("a") / EXIT).exists)
    record = json.loads((harness.run("a") / EXIT).read_text())
    (harness.run("a") / EXIT).write_text(json.dumps(record | change))
    harness.start()
    job = harness.wait_for("a", State.FAILED)  # with 5, at the second attempt
    assert (job.attempt, job.interruptions, job.exit_status) == (2, 1, 5)
    with open_queue(harness.workspace) as queue:
        assert any("how it ended is unknown" in str(line.reason) for line in queue.history("a"))


def test_a_defect_in_looking_at_a_job_ends_only_that_job(harness: Harness) -> None:
    """Any unforeseen error."""

    class Breaking:
        closed = 0

        def launch(self, attempt: Attempt, environment: Mapping[str, str]) -> bool:
            if attempt.run.name == "bad":
                raise ZeroDivisionError("\udcff of nobody")
            return True

        def observe(self, attempts: list[Attempt]) -> dict[Attempt, Liveness]:
            return dict.fromkeys(attempts, Liveness.ALIVE)

        def stop(self, attempt: Attempt, kill: bool = False) -> None:
            raise AssertionError("nobody asked")

        def close(self, attempt: Attempt) -> bool:
            self.closed += 1
            return True

    for name in ("bad", "good"):
        harness.submit(name)
    place = Breaking()
    with open_queue(harness.workspace) as queue:
        scheduler = Scheduler(queue, place, harness.workspace.runs)  # type: ignore[arg-type]
        scheduler.step()
        scheduler.step()
    assert harness.job("good").state is State.RUNNING
    bad = harness.job("bad")
    assert (bad.state, place.closed) == (State.FAILED, 1)
    assert "ZeroDivisionError" in str(bad.reason)


def test_a_new_queues_job_is_not_settled_by_an_old_record(harness: Harness) -> None:
    """The queue is damaged, moved away as the error says, and the job submitted again."""
    harness.start()
    harness.submit("a", COUNTS)
    harness.wait_for("a", State.DONE)
    harness.kill()
    path = harness.workspace.daemon / "queue.sqlite"
    path.write_bytes(b"\xaa" * 5000)
    assert "move it away and submit the jobs again" in Ran(harness.workspace, "status").error
    path.rename(path.with_suffix(".damaged"))
    assert "queue.sqlite is missing, but it ran a;" in Ran(harness.workspace, "status").error
    assert "not in the queue" in Ran(harness.workspace, "show", "a").stdout
    harness.start()
    harness.submit("a", COUNTS)
    harness.wait_for("a", State.DONE)
    assert harness.job("a").attempt == 1
    assert (harness.run("a") / "starts").read_text() == "xx"


def test_a_daemon_reports_a_new_queue_next_to_old_runs(harness: Harness) -> None:
    harness.run("a").mkdir(parents=True)
    (harness.run("a") / "runner.json").write_text("{}")
    try:
        served = distill(harness.workspace, "serve", "--background")
        assert "warning: starting a new queue: the queue" in served.stderr
        assert "it ran a;" in served.stderr
        again = distill(harness.workspace, "serve", "--background")
        assert "warning" not in again.stderr
    finally:
        distill(harness.workspace, "stop")


@pytest.mark.parametrize("launched", [False, True])
def test_a_restored_queue_reruns_unknown_jobs(harness: Harness, launched: bool) -> None:
    """In the copy the first attempt is running; the second has succeeded since."""
    path, copy = harness.workspace.daemon / "queue.sqlite", harness.workspace.root / "copy"
    harness.submit("a", COUNTS)
    with Queue(path) as queue, closing(sqlite3.connect(copy)) as target:
        queue.claim(1.0)
        if launched:
            queue.note_launched("a", 1)
        queue._connection.backup(target)
        queue.settle("a", 1, lambda cancelled: judge_loss(False, cancelled), 2.0)
    harness.start()
    assert harness.wait_for("a", State.DONE).attempt == 2
    harness.kill(signal.SIGTERM)
    copy.replace(path)
    harness.start()
    job = harness.wait_for("a", State.DONE)
    assert (job.attempt, job.interruptions) == ((2, 1) if launched else (1, 0))
    assert (harness.run("a") / "starts").read_text() == "xx"


def test_an_attempt_without_an_id_is_settled_by_its_record(harness: Harness) -> None:
    """It was started before the upgrade, and ended after it."""
    path = harness.workspace.daemon / "queue.sqlite"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as old:
        for statement in [line for version in MIGRATIONS[:2] for line in version]:
            old.execute(statement)
        old.execute(
            "INSERT INTO jobs (name, spec, state, position, attempt, submitted_at, started_at)"
            " VALUES ('a', ?, 'running', 1, 3, 1.0, 2.0)",
            [spec("a", COUNTS)],
        )
        old.execute("PRAGMA user_version = 2")
    old.close()
    freeze_spec(harness.run("a"), spec("a", COUNTS))
    process = {"pid": 1, "start_ticks": 1, "boot_id": "before"}
    (harness.run("a") / RUNNER).write_text(json.dumps({"attempt": 3, "runner": process}))
    (harness.run("a") / EXIT).write_text(json.dumps({"attempt": 3, **ENDED_WELL}))
    harness.start()
    assert harness.wait_for("a", State.DONE).attempt == 3
    assert not (harness.run("a") / "starts").exists()


@pytest.mark.parametrize("how", ["removed", "renamed", "replaced"])
def test_a_run_folder_that_goes_away_fails_its_job(harness: Harness, how: str) -> None:
    harness.start()
    harness.submit("a", WAITS)
    pid, run = int(harness.wait_for_file("a", "pid")), harness.run("a")
    if how == "removed":
        subprocess.run(["rm", "-rf", run], check=True)
    else:
        run.rename(run.with_name("elsewhere"))
    if how == "replaced":
        freeze_spec(run, spec("a", WAITS))
    job = harness.wait_for("a", State.FAILED)
    assert "was removed, renamed or replaced while the job ran" in str(job.reason)
    assert str(run) in str(job.reason)
    assert job.attempt == 1
    wait_until(lambda: not is_alive(pid), "nothing of it runs")
    harness.submit("a", WAITS)
    assert int(harness.wait_for_file("a", "pid")) != pid
    assert harness.job("a").attempt == 2


@pytest.mark.parametrize("hour", [-3600.0, 3600.0])
def test_a_changed_clock_delays_neither_retry_nor_kill(
    harness: Harness, hour: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    offset = 0.0
    path = harness.workspace.daemon / "queue.sqlite"
    harness.submit("a")
    with Queue(path) as queue:
        queue.claim(time.time())
        lost = Outcome(event=Event.INTERRUPT, reason="interrupted")
        waiting = queue.settle("a", 1, lambda cancelled: lost, time.time())
        assert waiting.back_off > 0
        assert queue.claim(time.time()) is None
        again = queue.claim(time.time() + hour)
        assert again is not None
        assert again.attempt == 2

        stops: list[bool] = []

        class Hung:
            def observe(self, attempts: list[Attempt]) -> dict[Attempt, Liveness]:
                return dict.fromkeys(attempts, Liveness.ALIVE)

            def stop(self, attempt: Attempt, kill: bool = False) -> None:
                stops.append(kill)

        monkeypatch.setattr("distill.daemon.scheduler._OVERTIME_SECONDS", 0.2)
        scheduler = Scheduler(
            queue, Hung(), harness.workspace.runs, grace=0.1, clock=lambda: time.time() + offset
        )  # type: ignore[arg-type]
        queue.request_cancel("a", time.time())
        scheduler.step()
        offset = hour
        scheduler.step()
        assert not any(stops)
        time.sleep(0.4)
        scheduler.step()
        assert stops[-1]


def test_an_empty_queue_file_is_damaged_and_not_touched(harness: Harness) -> None:
    harness.submit("a")
    path = harness.workspace.daemon / "queue.sqlite"
    path.write_bytes(b"")
    log = path.with_name("queue.sqlite-wal")
    log.write_bytes(b"what was written last")
    for command in (["status"], ["serve"], ["show", "a"], ["cancel", "a"]):
        assert "is damaged (it is empty)" in Ran(harness.workspace, *command).error
    assert (path.read_bytes(), log.read_bytes()) == (b"", b"what was written last")
    path.unlink()
    harness.submit("a")  # as the error says
    assert harness.job("a").state is State.QUEUED
    assert path.with_name("queue.sqlite-wal.old-1").read_bytes() == b"what was written last"


def test_a_queue_that_is_moved_under_a_daemon_takes_no_submit(harness: Harness) -> None:
    harness.start()
    harness.submit("a", SLEEP)
    path = harness.workspace.daemon / "queue.sqlite"
    path.rename(path.with_suffix(".moved"))
    with pytest.raises(UserError, match="moved or replaced; run `distill stop`"):
        harness.submit("b")
    path.with_suffix(".moved").rename(path)
    assert harness.submit("b") is Answer.QUEUED


@pytest.fixture
def read_only(harness: Harness) -> Iterator[Workspace]:
    """A workspace that was in use and is now on a read-only disk."""
    harness.start()
    harness.submit("a", "print('hello')")
    harness.wait_for("a", State.DONE)
    harness.submit("b", "raise SystemExit(2)")
    harness.wait_for("b", State.FAILED)
    harness.kill(signal.SIGKILL)  # so that the queue's log is not written back
    place = harness.workspace.root.with_name("read-only")
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "--bind", "-o", "ro", harness.workspace.root, place], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root can make a disk read-only")
    subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
    yield Workspace(place)
    subprocess.run(["umount", place], check=True)


def test_a_workspace_that_cannot_be_written_can_be_looked_at(read_only: Workspace) -> None:
    shown = json.loads(Ran(read_only, "status", "--json").stdout)
    assert [(job["name"], job["state"]) for job in shown] == [("b", "failed"), ("a", "done")]
    assert "status 2" in Ran(read_only, "status").stdout
    assert "a: done" in Ran(read_only, "show", "a").stdout
    assert "hello" in Ran(read_only, "logs", "a").stdout
    assert "a: done" in Ran(read_only, "watch", "a").stderr
    cannot = distill(read_only, "cancel", "b")
    assert cannot.returncode == 1
    assert cannot.stderr.startswith("error: ")
    assert "Read-only file system" in cannot.stderr


def test_a_job_waits_for_a_step_of_another_without_a_slot(harness: Harness) -> None:
    """Its process ends; it is queued until no other job is doing the step."""
    waits = f"""
import json, pathlib, sys
run = pathlib.Path(sys.argv[1])
with open(run / "starts", "a") as file:
    file.write("x")
if (run / "starts").stat().st_size == 1:
    told = dict(step="distil-0123456789abcdef", name="generation 1", job="first")
    (run / "waiting.json").write_text(json.dumps(told))
    sys.exit({STEP_BUSY})
"""
    step = harness.workspace.steps / "distil-0123456789abcdef"
    step.mkdir(parents=True)
    (step / LOCK).touch()
    with held(step / LOCK):
        harness.start()
        harness.submit("a", waits)
        harness.submit("other")
        harness.wait_for("other", State.DONE)
        job = harness.wait_for("a", State.QUEUED)
        assert (job.attempt, job.interruptions) == (1, 0)
        shown = Ran(harness.workspace, "status").stdout
        assert "a: shares the step generation 1 with job first" in shown
        harness.submit("cancelled", waits)
        wait_until(lambda: harness.job("cancelled").attempt == 1)
        harness.wait_for("cancelled", State.QUEUED)
        assert stopping.cancel(harness.workspace, ["cancelled"])[0].state is State.CANCELLED
    assert harness.wait_for("a", State.DONE).attempt == 2


def test_a_senseless_waiting_record_fails_the_job(harness: Harness) -> None:
    code = f"""
import pathlib, sys
told = '{{"step": "../../etc", "name": "x", "job": null}}'
pathlib.Path(sys.argv[1], "waiting.json").write_text(told)
sys.exit({STEP_BUSY})
"""
    harness.start()
    harness.submit("a", code)
    assert "status 75" in str(harness.wait_for("a", State.FAILED).reason)


def test_a_signal_the_job_reports_is_shown_in_its_words(
    harness: Harness,
) -> None:
    """A rank was killed by the kernel; the job itself ended in order, with 128 + 9."""
    code = FAILS_WITH.format(name="failure.json", content=b'{"reason": "rank 1 of 2 was ended"}')
    harness.start()
    harness.submit("a", code.replace("SystemExit(3)", "SystemExit(137)"))
    job = harness.wait_for("a", State.FAILED)
    assert (job.attempt, job.exit_status) == (MAXIMUM_ATTEMPTS, 137)
    assert "interrupted: rank 1 of 2 was ended" in str(job.reason)


def test_a_runner_dead_at_its_start_is_not_the_previous_one(
    harness: Harness,
) -> None:
    class Dying:
        def launch(self, attempt: Attempt, environment: Mapping[str, str]) -> bool:
            write_runner_record(Attempt(attempt.run, 9, "aa"), None)  # of another queue
            raise LaunchKilledError("the runner was killed at its start")

        def observe(self, attempts: list[Attempt]) -> dict[Attempt, Liveness]:
            return {}

        def close(self, attempt: Attempt) -> bool:
            return True

        def rebooted_since(self, attempt: Attempt) -> bool:
            return False

    harness.submit("a")
    with open_queue(harness.workspace) as queue:
        Scheduler(queue, Dying(), harness.workspace.runs).step()  # type: ignore[arg-type]
    job = harness.job("a")
    assert job.state is State.QUEUED
    assert job.reason == "interrupted: its runner process was killed"


def test_a_daemon_whose_record_is_damaged_is_found_and_stopped(harness: Harness) -> None:
    harness.start()
    (harness.workspace.daemon / "daemon.json").write_text('{"process": {"pid": 1e999}}')
    assert "no daemon" not in Ran(harness.workspace, "status").stderr
    assert harness.daemon is not None
    assert f"(pid {harness.daemon.pid})" in Ran(harness.workspace, "stop").stdout
    assert harness.daemon.wait(10) == 0
    harness.daemon = None


def test_an_untellable_job_is_reported_once_and_blocks_no_other(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd:
        def launch(self, attempt: Attempt, environment: Mapping[str, str]) -> bool:
            return True

        def observe(self, attempts: list[Attempt]) -> dict[Attempt, Liveness]:
            odd = {"a": Liveness.UNREACHABLE}
            return {each: odd.get(each.run.name, Liveness.ALIVE) for each in attempts}

    for name in ("a", "b"):
        harness.submit(name)
    with open_queue(harness.workspace) as queue:
        scheduler = Scheduler(queue, Odd(), harness.workspace.runs, slots=2)  # type: ignore[arg-type]
        for _ in range(20):
            scheduler.step()
        assert [job.state for job in queue.jobs()] == [State.RUNNING] * 2
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [str(record.msg).partition(":")[0] for record in told] == ["a"]
