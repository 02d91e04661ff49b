"""The supervisor of one attempt, as a real process around real jobs."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill.daemon.attempts import Attempt
from distill.daemon.executor import LaunchError, Liveness
from distill.daemon.executors.local import LocalExecutor
from distill.daemon.processes import (
    RUNNER_MODULE,
    ProcessIdentity,
    boot_id,
    kill_tagged,
)
from distill.daemon.records import ExitRecord, RunnerRecord
from distill.daemon.runfolder import (
    in_use,
    locked,
    own_runner_record,
    read_exit_record,
    read_runner_record,
    write_runner_record,
)
from distill.fence import TAG_VARIABLE
from distill.run_directory import EXIT, FAILURE, LOG, METRICS, RUNNER, damage, read_last_metrics
from tests.distill.daemon.harness import is_alive, make_odd, wait_until

# A child in its own session that ignores TERM, as torchrun's ranks may; its pid is in a file.
STUBBORN_CHILD = """
import pathlib, subprocess, sys
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)"
process = subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
path = pathlib.Path(sys.argv[1], "child.pid")
path.with_suffix(".new").write_text(str(process.pid))
path.with_suffix(".new").replace(path)
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "a run, with spaces"
    folder.mkdir()
    yield folder
    record = read_runner_record(folder)
    if record is not None and record.runner is not None:
        record.runner.send(signal.SIGKILL)
    while kill_tagged(folder):
        time.sleep(0.01)


def executor(code: str, grace: float = 10.0) -> LocalExecutor:
    return LocalExecutor(lambda run: [sys.executable, "-c", code, str(run)], grace)


def ended(attempt: Attempt) -> ExitRecord:
    run = attempt.run
    wait_until(lambda: (run / EXIT).exists() and not in_use(run), "the runner has ended")
    record = read_exit_record(attempt)
    assert record is not None
    return record


def text_of(path: Path) -> str:
    wait_until(path.exists, f"{path.name} is there")
    return path.read_text()


@pytest.mark.parametrize(
    ("code", "status", "number"),
    [
        ("pass", 0, None),
        ("raise SystemExit(5)", 5, None),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", None, signal.SIGKILL),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", None, signal.SIGSEGV),
    ],
)
def test_the_exit_record_is_exact(
    run: Path, code: str, status: int | None, number: int | None
) -> None:
    executor(code).launch(Attempt(run, 1))
    record = ended(Attempt(run, 1))
    assert (record.exit_status, record.signal, record.error) == (status, number, None)
    assert record.started_at <= record.finished_at


def test_the_log_has_both_streams_of_every_attempt(run: Path) -> None:
    code = "import sys; print('to stdout'); print('to stderr', file=sys.stderr)"
    for number in (1, 2):
        executor(code).launch(Attempt(run, number))
        ended(Attempt(run, number))
    log = (run / LOG).read_text()
    assert log.count("to stdout") == log.count("to stderr") == 2
    assert "attempt 1 ended with status 0" in log
    assert "attempt 2 starts" in log


def test_launch_returns_when_the_runner_holds_the_folder(run: Path) -> None:
    executor("import time; time.sleep(100)").launch(Attempt(run, 1))
    assert in_use(run)
    record = read_runner_record(run)
    assert record is not None
    assert record.runner is not None
    assert record.runner == ProcessIdentity.of(record.runner.pid)
    assert record.runner.boot_id == boot_id()


def test_a_missing_command_leaves_a_record_that_says_so(run: Path) -> None:
    LocalExecutor(lambda run: ["/no/such/program"], 1.0).launch(Attempt(run, 1))
    record = ended(Attempt(run, 1))
    assert record.exit_status == 127
    assert "/no/such/program" in str(record.error)


def test_stop_lets_the_job_write_its_checkpoint(run: Path) -> None:
    code = """
import pathlib, signal, sys, time
def save(number, frame):
    pathlib.Path(sys.argv[1], "checkpoint").write_text("saved")
    raise SystemExit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path(sys.argv[1], "ready").touch()
time.sleep(100)
"""
    local = executor(code)
    local.launch(Attempt(run, 1))
    wait_until((run / "ready").exists)
    local.stop(Attempt(run, 1))
    local.stop(Attempt(run, 1))  # a repeated request has no effect
    assert ended(Attempt(run, 1)).exit_status == 143
    assert (run / "checkpoint").read_text() == "saved"


def test_stop_ends_stubborn_children_in_own_sessions(run: Path) -> None:
    code = STUBBORN_CHILD + "\nimport signal, time; signal.signal(15, signal.SIG_IGN)"
    local = executor(code + "\ntime.sleep(100)", grace=0.3)
    local.launch(Attempt(run, 1))
    child = int(text_of(run / "child.pid"))
    local.stop(Attempt(run, 1))
    assert ended(Attempt(run, 1)).signal == signal.SIGKILL
    assert not is_alive(child)


def test_orphans_of_a_job_end_before_its_record_is_written(run: Path) -> None:
    executor(STUBBORN_CHILD).launch(Attempt(run, 1))
    child = int(text_of(run / "child.pid"))
    assert ended(Attempt(run, 1)).exit_status == 0
    assert not is_alive(child)


def test_after_kill_9_of_the_runner_its_orphans_are_ended(run: Path) -> None:
    local = executor(STUBBORN_CHILD + "\nimport time; time.sleep(100)")
    attempt = Attempt(run, 1)
    local.launch(attempt)
    child = int(text_of(run / "child.pid"))
    local.stop(attempt, kill=True)
    wait_until(lambda: local.observe([attempt])[attempt] is Liveness.GONE)
    assert is_alive(child)
    wait_until(lambda: local.close(attempt), "nothing of the attempt runs")
    assert not is_alive(child)
    assert not (run / EXIT).exists()


def test_orphans_of_an_attempt_end_before_the_next_begins(run: Path) -> None:
    local = executor(STUBBORN_CHILD + "\nimport time; time.sleep(100)")
    local.launch(Attempt(run, 1))
    child = int(text_of(run / "child.pid"))
    local.stop(Attempt(run, 1), kill=True)
    wait_until(lambda: not in_use(run))
    look = f"""
try:
    state = open("/proc/{child}/stat").read().rpartition(")")[2].split()[0]
except FileNotFoundError:
    state = "Z"
raise SystemExit(state != "Z")
"""
    executor(look).launch(Attempt(run, 2))
    assert ended(Attempt(run, 2)).exit_status == 0


def test_many_launches_of_one_attempt_run_it_once(run: Path) -> None:
    code = "import sys, time; open(sys.argv[1] + '/starts', 'a').write('x'); time.sleep(0.5)"
    launches = [
        threading.Thread(target=executor(code).launch, args=[Attempt(run, 1)]) for _ in range(3)
    ]
    for launch in launches:
        launch.start()
    for launch in launches:
        launch.join()
    assert ended(Attempt(run, 1)).exit_status == 0
    assert (run / "starts").read_text() == "x"


def test_an_attempt_that_was_closed_never_begins(run: Path) -> None:
    local = executor("import sys; open(sys.argv[1] + '/started', 'w')")
    attempt = Attempt(run, 3)
    assert local.observe([attempt])[attempt] is Liveness.UNSTARTED
    assert local.close(attempt)
    local.launch(attempt)
    assert not (run / "started").exists()
    assert local.observe([attempt])[attempt] is Liveness.GONE


def test_a_runner_that_comes_late_never_begins(run: Path) -> None:
    """Its daemon decided to launch it before the newest attempt began."""
    executor("pass").launch(Attempt(run, 2, "bb"))
    ended(Attempt(run, 2, "bb"))
    for after in ("", "1-aa", "2", "2-bc"):
        late = [sys.executable, "-m", RUNNER_MODULE, str(run), "3", "--id=cc", f"--after={after}"]
        touch = [sys.executable, "-c", "import sys; open(sys.argv[1] + '/started', 'w')", str(run)]
        subprocess.run([*late, "--grace=1", "--", *touch], check=True)
    wait_until(lambda: not in_use(run))
    assert not (run / "started").exists()
    assert own_runner_record(Attempt(run, 2, "bb")) is not None


@pytest.mark.parametrize("after", [Attempt(Path(), 2, "bb"), None])
def test_a_runner_that_is_displaced_kills_its_job(run: Path, after: Attempt | None) -> None:
    """As if locks were unreliable: another attempt has started, or this one was given up."""
    attempt = Attempt(run, 1, "aa")
    executor(STUBBORN_CHILD + "\nimport time; time.sleep(100)").launch(attempt)
    child = int(text_of(run / "child.pid"))
    me = ProcessIdentity.of(os.getpid())
    if after is None:
        write_runner_record(attempt, None)
    else:
        write_runner_record(Attempt(run, after.number, after.id), me)
    wait_until(lambda: not in_use(run), "the runner has ended")
    assert not is_alive(child)
    assert not (run / EXIT).exists()
    assert "another attempt has started, or this one was given up" in (run / LOG).read_text()
    (run / RUNNER).unlink()  # that process is this one


def test_another_queues_attempt_takes_no_old_record(run: Path) -> None:
    """The queue was lost: the new one counts from 1 again."""
    for number, attempt_id in ((7, "aa"), (1, "bb"), (1, "cc")):
        attempt = Attempt(run, number, attempt_id)
        assert read_exit_record(attempt) is None
        executor(f"raise SystemExit({number})").launch(attempt)
        assert ended(attempt).exit_status == number
    assert read_exit_record(Attempt(run, 1)) is None
    assert read_exit_record(Attempt(run, 1, "bb")) is None


def test_a_runner_with_a_damaged_record_is_found(run: Path) -> None:
    attempt = Attempt(run, 1, "aabb")
    local = executor("import time; time.sleep(100)")
    local.launch(attempt)
    (run / RUNNER).write_text('{"attempt": Infinity}')
    assert local.observe([attempt])[attempt] is Liveness.ALIVE
    local.stop(attempt)
    assert ended(attempt).signal == signal.SIGTERM


def test_a_folder_that_somebody_works_in_cannot_be_launched(run: Path) -> None:
    hold = f"import fcntl, os, time; fcntl.flock(os.open({str(run)!r}, 0), fcntl.LOCK_EX)"
    code = f"{hold}; print('held', flush=True); time.sleep(100)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LaunchError, match="in use by another process"):
            executor("pass").launch(Attempt(run, 1))
        holder.kill()


def test_an_old_failure_is_not_taken_for_a_new_one(run: Path) -> None:
    (run / FAILURE).write_text(json.dumps({"reason": "of yesterday"}))
    executor("raise SystemExit(1)").launch(Attempt(run, 1))
    ended(Attempt(run, 1))
    assert not (run / FAILURE).exists()


def test_every_process_of_a_job_carries_its_attempt(run: Path) -> None:
    code = f"import os, sys; open(sys.argv[1] + '/tag', 'w').write(os.environ['{TAG_VARIABLE}'])"
    attempt = Attempt(run, 4, "c0ffee")
    executor(code).launch(attempt)
    ended(attempt)
    assert (run / "tag").read_text() == f"{run}#4-c0ffee"


def test_a_record_of_another_boot_shows_the_restart(run: Path) -> None:
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    before = ProcessIdentity(me.pid, me.start_ticks, "another-boot")
    write_runner_record(Attempt(run, 1), before)
    assert executor("pass").rebooted_since(Attempt(run, 1))
    assert not before.send(signal.SIGKILL), "that process is of another boot"


def test_a_reused_pid_is_not_the_process(run: Path) -> None:
    me = ProcessIdentity.of(os.getpid())
    assert me is not None
    assert not ProcessIdentity(me.pid, me.start_ticks - 1, me.boot_id).send(signal.SIGKILL)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"attempt": 1}', b"[" * 100_000]
    + [json.dumps({"attempt": 1, "exit_status": 0, "signal": None, "error": None,
                   "started_at": 0, "finished_at": 0} | changed).encode()
       for changed in (
           {"exit_status": None}, {"exit_status": "0"}, {"exit_status": True},
           {"exit_status": 10**30}, {"exit_status": 256}, {"exit_status": -1},
           {"exit_status": 0.0}, {"signal": "9"}, {"signal": 9},
           {"exit_status": None, "signal": 65}, {"error": {}}, {"error": "\ud800"},
           {"attempt": "1"}, {"id": "../../x"}, {"id": None},
           {"started_at": float("nan")}, {"finished_at": float("inf")}, {"finished_at": -1})],
)  # fmt: skip
def test_a_garbage_exit_record_reads_as_none_and_says_why(run: Path, content: bytes) -> None:
    (run / EXIT).write_bytes(content)
    assert read_exit_record(Attempt(run, 1)) is None
    assert damage(run / EXIT, ExitRecord)


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "nowhere", "zero", "large"])
def test_anything_but_a_file_is_no_record(run: Path, kind: str) -> None:
    """Looking at it does not block either."""
    make_odd(run / RUNNER, kind)
    make_odd(run / METRICS, kind)
    assert read_runner_record(run) is None
    assert damage(run / RUNNER, RunnerRecord)
    assert executor("pass").observe([Attempt(run, 1)]) == {Attempt(run, 1): Liveness.UNSTARTED}
    assert read_last_metrics(run) == {}


def test_the_lock_moves_with_the_folder_and_ends_with_its_holder(run: Path) -> None:
    moved = run.with_name("moved")
    with locked(run):
        run.rename(moved)
        assert in_use(moved)
    assert not in_use(moved)
    moved.rename(run)
