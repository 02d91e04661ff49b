"""The daemon keeps its promises when it is killed."""

import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from daemon_under_test import code_of

from curation.errors import UserError
from distill.daemon import client, daemon_lock, stopping
from distill.daemon.address import SOCKET
from distill.daemon.attempts import Attempt
from distill.daemon.daemon_lock import network_filesystem
from distill.daemon.executor import Liveness
from distill.daemon.executors.local import LocalExecutor
from distill.daemon.opening import open_queue
from distill.daemon.outcome import MAXIMUM_ATTEMPTS
from distill.daemon.processes import DIED
from distill.daemon.runfolder import read_runner_record
from distill.daemon.scheduler import Scheduler
from distill.daemon.states import Event, State
from distill.daemon.submitting import Answer
from tests.distill.daemon.harness import SCRIPT, Harness, is_alive, kill, wait_until

SLEEP = "import time; time.sleep(100)"
# Writes its pid, then waits for the file `go`, and exits with 5.
WAITS = """
import os, pathlib, sys, time
run = pathlib.Path(sys.argv[1])
(run / "pid.new").write_text(str(os.getpid())); (run / "pid.new").rename(run / "pid")
while not (run / "go").exists():
    time.sleep(0.01)
raise SystemExit(5)
"""
# Records a violation if another process of the same job is alive.
ALONE = """
import fcntl, os, pathlib, sys, time
run = pathlib.Path(sys.argv[1])
lock = os.open(run / "alone.lock", os.O_CREAT | os.O_RDWR)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    (run / "violation").touch()
(run / "pid").write_text(str(os.getpid()))
while not (run / "go").exists():
    time.sleep(0.01)
"""


def runner_pid(harness: Harness, name: str) -> int:
    record = read_runner_record(harness.run(name))
    assert record is not None
    assert record.runner is not None
    return record.runner.pid


def test_jobs_run_one_after_the_other_in_their_own_folders(harness: Harness) -> None:
    harness.start()
    for name in ("first", "second"):
        harness.submit(name, f"print('this is {name}')")
    second = harness.wait_for("second", State.DONE)
    first = harness.job("first")
    assert first.finished_at is not None
    assert second.started_at is not None
    assert first.finished_at <= second.started_at
    assert "this is first" in (harness.run("first") / "log.txt").read_text()
    assert harness.job("first").spec == (harness.run("first") / "spec.toml").read_text()


def test_slots_run_jobs_side_by_side(harness: Harness) -> None:
    harness.start(slots=2)
    for name in ("a", "b", "c"):
        harness.submit(name, WAITS)
    for name in ("a", "b"):
        harness.wait_for_file(name, "pid")
    assert harness.job("c").state is State.QUEUED
    (harness.run("a") / "go").touch()
    harness.wait_for_file("c", "pid")


def test_a_failure_has_the_jobs_own_words_and_no_retry(harness: Harness) -> None:
    code = """
import json, pathlib, sys
words = {"reason": "the loss is NaN in epoch 3", "hint": "lower the learning rate"}
pathlib.Path(sys.argv[1], "failure.json").write_text(json.dumps(words))
raise SystemExit(1)
"""
    harness.start()
    harness.submit("a", code)
    job = harness.wait_for("a", State.FAILED)
    assert (job.reason, job.hint) == ("the loss is NaN in epoch 3", "lower the learning rate")
    assert (job.attempt, job.exit_status) == (1, 1)


# httpcore leaves a socket to the garbage collector when the connection is refused.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_acknowledged_submits_survive_kill_9_of_the_daemon(harness: Harness) -> None:
    acknowledged: list[str] = []
    dice = random.Random(2)

    def submit_until_refused(number: int) -> None:
        for count in range(1000):
            try:
                harness.submit(f"job-{number}-{count}")
            except UserError:
                return  # the daemon died in between: not acknowledged
            acknowledged.append(f"job-{number}-{count}")
            if harness.daemon is None:
                return

    for number in range(3):
        harness.start(slots=0)  # nothing runs, because this is about the queue
        submitting = threading.Thread(target=submit_until_refused, args=[number])
        submitting.start()
        time.sleep(dice.uniform(0.1, 0.5))
        harness.kill(signal.SIGKILL)
        submitting.join()
    assert acknowledged
    assert set(acknowledged) <= {job.name for job in client.jobs(harness.workspace)}


def test_a_running_job_outlives_kill_9_of_the_daemon(
    harness: Harness,
) -> None:
    harness.start()
    harness.submit("a", WAITS)
    pid = int(harness.wait_for_file("a", "pid"))
    harness.kill(signal.SIGKILL)
    assert is_alive(pid)
    harness.start()
    assert int(harness.wait_for_file("a", "pid")) == pid, "it is the same process still"
    (harness.run("a") / "go").touch()
    job = harness.wait_for("a", State.FAILED)
    assert (job.exit_status, job.attempt) == (5, 1)


def test_a_job_that_ends_without_a_daemon_is_settled_later(harness: Harness) -> None:
    harness.start()
    harness.submit("a", WAITS)
    harness.wait_for_file("a", "pid")
    harness.kill(signal.SIGKILL)
    (harness.run("a") / "go").touch()
    wait_until((harness.run("a") / "exit.json").exists)
    assert harness.job("a").state is State.RUNNING
    harness.start()
    assert harness.wait_for("a", State.FAILED).exit_status == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_daemon_and_leaves_the_job_running(
    harness: Harness, number: signal.Signals
) -> None:
    harness.start()
    harness.submit("a", WAITS)
    pid = int(harness.wait_for_file("a", "pid"))
    assert harness.kill(number) == 0
    assert is_alive(pid)
    assert not (harness.workspace.daemon / SOCKET).exists()


def test_kill_9_of_a_job_uses_up_its_attempts(harness: Harness) -> None:
    harness.start()
    harness.submit("a", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    job = harness.wait_for("a", State.FAILED)
    assert job.attempt == MAXIMUM_ATTEMPTS
    assert "SIGKILL" in str(job.reason)
    with open_queue(harness.workspace) as queue:
        events = [line.event for line in queue.history("a")]
    again = [Event.START, Event.INTERRUPT] * (MAXIMUM_ATTEMPTS - 1)
    assert events == [Event.SUBMIT, *again, Event.START, Event.FAIL]


def test_kill_9_of_the_runner_ends_the_job_and_starts_it_again(harness: Harness) -> None:
    harness.start()
    harness.submit("a", ALONE)
    first = int(harness.wait_for_file("a", "pid"))
    kill(runner_pid(harness, "a"))
    wait_until(lambda: int(harness.wait_for_file("a", "pid")) != first, "it was started again")
    assert not is_alive(first)
    assert not (harness.run("a") / "violation").exists()
    assert "runner" in str(harness.job("a").reason)


def test_no_two_attempts_live_at_once_under_random_kills(harness: Harness) -> None:
    dice = random.Random(3)
    harness.start()
    harness.submit("a", ALONE)
    harness.wait_for_file("a", "pid")
    for _ in range(4):
        time.sleep(dice.uniform(0.0, 0.3))
        harness.kill(signal.SIGKILL)
        if dice.random() < 0.5 and harness.job("a").interruptions < MAXIMUM_ATTEMPTS - 1:
            kill_if_there(harness)
        harness.start(wait=False)
    (harness.run("a") / "go").touch()
    harness.wait_for("a", State.DONE)
    assert not (harness.run("a") / "violation").exists()


def kill_if_there(harness: Harness) -> None:
    record = read_runner_record(harness.run("a"))
    if record is not None and record.runner is not None:
        record.runner.send(signal.SIGKILL)


def test_a_claimed_job_is_launched_after_a_restart(
    harness: Harness,
) -> None:
    harness.submit("a")  # no daemon: directly into the queue
    with open_queue(harness.workspace) as queue:
        queue.claim(time.time())  # like a daemon that dies before the launch
    harness.start()
    assert harness.wait_for("a", State.DONE).attempt == 1


@pytest.mark.parametrize("running", [True, False], ids=["daemon", "no daemon"])
def test_cancel_leaves_no_process_and_is_not_a_failure(harness: Harness, running: bool) -> None:
    code = """
import os, pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)"
pids = [subprocess.Popen([sys.executable, "-c", child], start_new_session=True).pid
        for _ in range(2)]
path = pathlib.Path(sys.argv[1], "pids.new")
path.write_text(" ".join(map(str, [os.getpid(), *pids])))
path.rename(path.with_suffix(""))
time.sleep(100)
"""
    harness.start(grace=0.3)
    harness.submit("a", code)
    pids = [int(pid) for pid in harness.wait_for_file("a", "pids").split()]
    if not running:
        harness.kill(signal.SIGKILL)
    job = stopping.cancel(harness.workspace, ["a"])[0]
    assert (job.state, job.reason) == (State.CANCELLED, "cancelled by the user")
    assert not any(is_alive(pid) for pid in pids)
    wait_until(lambda: not is_alive(runner_pid(harness, "a")))


def test_a_queued_job_is_cancelled_at_once_and_never_starts(harness: Harness) -> None:
    harness.start()
    harness.submit("busy", SLEEP)
    harness.submit("waiting", "import sys; open(sys.argv[1] + '/started', 'w')")
    assert stopping.cancel(harness.workspace, ["waiting"])[0].state is State.CANCELLED
    stopping.cancel(harness.workspace, ["busy"])
    harness.submit("last")
    harness.wait_for("last", State.DONE)
    assert not (harness.run("waiting") / "started").exists()


def test_a_submit_without_a_daemon_is_run_by_the_next_one(harness: Harness) -> None:
    assert harness.submit("a") is Answer.QUEUED
    assert harness.job("a").state is State.QUEUED
    harness.start()
    harness.wait_for("a", State.DONE)


def test_a_stale_socket_is_replaced(harness: Harness) -> None:
    harness.start()
    harness.kill(signal.SIGKILL)
    assert (harness.workspace.daemon / SOCKET).is_socket()
    assert client.health(harness.workspace) is None
    harness.start()
    assert client.health(harness.workspace) is not None


def test_a_second_daemon_is_refused(harness: Harness) -> None:
    harness.start()
    second = subprocess.run(
        [sys.executable, str(SCRIPT), str(harness.workspace.root), "1", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode != 0
    assert f"a daemon (pid {harness.daemon.pid}) serves" in second.stderr  # type: ignore[union-attr]
    assert client.health(harness.workspace) is not None


def test_the_socket_and_its_folder_are_the_owners_only(harness: Harness) -> None:
    harness.start()
    folder = harness.workspace.daemon
    assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_deep_workspace_has_a_working_socket(tmp_path: Path) -> None:
    deep = Harness(tmp_path / ("deep-" * 12) / ("deeper-" * 12) / "workspace")
    deep.workspace.root.parent.mkdir(parents=True)
    with pytest.raises(OSError, match="too long"), socket.socket(socket.AF_UNIX) as plain:
        plain.bind(str(deep.workspace.daemon / SOCKET))
    try:
        deep.start()
        deep.submit("a")
        deep.wait_for("a", State.DONE)
    finally:
        deep.clean_up()


def test_a_damaged_queue_stops_the_daemon_with_one_line(harness: Harness) -> None:
    harness.workspace.daemon.mkdir(parents=True)
    (harness.workspace.daemon / "queue.sqlite").write_bytes(b"garbage" * 1000)
    second = subprocess.run(
        [sys.executable, str(SCRIPT), str(harness.workspace.root), "1", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode != 0
    assert "is damaged" in second.stderr
    assert daemon_lock.find(harness.workspace) is None
    (harness.workspace.daemon / "queue.sqlite").unlink()


def test_the_daemon_never_imports_torch(harness: Harness) -> None:
    harness.start()
    assert harness.daemon is not None
    maps = Path(f"/proc/{harness.daemon.pid}/maps").read_text()
    assert "libtorch" not in maps
    assert "libpython" in maps or "python" in maps


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home/me/workspace", None), ("/data/ws", "nfs4"), ("/data/local/ws", None), ("/", None)],
)
def test_network_file_systems_are_recognised_by_their_mount(path: str, kind: str | None) -> None:
    mounts = {"/": "ext4", "/data": "nfs4", "/data/local": "xfs"}
    assert network_filesystem(Path(path), mounts) == kind


def test_unreachable_changes_nothing(harness: Harness) -> None:
    """An executor that does not respond is never a reason to give a job up."""

    class Unreachable:
        launches = 0

        def launch(self, attempt: Attempt, environment: Mapping[str, str]) -> None:
            self.launches += 1

        def observe(self, attempts: list[Attempt]) -> dict[Attempt, Liveness]:
            return dict.fromkeys(attempts, Liveness.UNREACHABLE)

        def stop(self, attempt: Attempt, kill: bool = False) -> None:
            raise AssertionError("nobody asked")

        def close(self, attempt: Attempt) -> bool:
            raise AssertionError("nobody asked")

    harness.submit("a")
    place = Unreachable()
    with open_queue(harness.workspace) as queue:
        scheduler = Scheduler(queue, place, harness.workspace.runs)  # type: ignore[arg-type]
        for _ in range(1000):
            scheduler.step()
        assert queue.job("a").state is State.RUNNING  # type: ignore[union-attr]
    assert place.launches == 1


@pytest.mark.parametrize("victim", ["launcher", "runner"])
def test_kill_9_at_the_start_is_an_interruption_not_a_failure(
    harness: Harness, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The starting process kills itself, before or after its fork."""
    kills = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    if victim == "runner":
        kills = f"import os\nif not os.fork():\n    {kills}\nos.wait(); raise SystemExit({DIED})"
    harness.submit("a")
    with open_queue(harness.workspace) as queue:
        executor = LocalExecutor(code_of)
        scheduler = Scheduler(queue, executor, harness.workspace.runs)
        with monkeypatch.context() as patched:
            patched.setattr("distill.daemon.executors.local.RUNNER_MODULE", "killed")
            patched.setenv("PYTHONPATH", str(harness.workspace.root), prepend=os.pathsep)
            (harness.workspace.root / "killed.py").write_text(kills)
            scheduler.step()
        job = harness.job("a")
        assert job.state is State.QUEUED
        assert str(job.reason) == "interrupted: its runner process was killed"
        wait_until(lambda: scheduler.step() or harness.job("a").state is State.DONE)
        assert harness.job("a").attempt == 2
