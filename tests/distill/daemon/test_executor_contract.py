"""The contract of every executor, on real processes of this machine and of a real Slurm."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill.daemon.attempts import Attempt, fresh_id
from distill.daemon.executor import Executor, Liveness
from distill.daemon.executors.local import LocalExecutor
from distill.daemon.executors.slurm import SlurmExecutor
from distill.daemon.records import ExitRecord
from distill.daemon.runfolder import own_runner_record, read_exit_record
from distill.run_directory import EXIT, LOG
from tests.distill.daemon.harness import is_alive, wait_until

SLEEP = "import time; time.sleep(100)"
SAVES = """
import pathlib, signal, sys, time
def save(number, frame):
    pathlib.Path(sys.argv[1], "checkpoint").write_text("saved")
    raise SystemExit(143)
signal.signal(signal.SIGTERM, save)
pathlib.Path(sys.argv[1], "ready").touch()
time.sleep(100)
"""
STUBBORN = """
import pathlib, signal, subprocess, sys, time
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(100)"
process = subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1], "child").write_text(str(process.pid))
pathlib.Path(sys.argv[1], "ready").touch()
time.sleep(100)
"""
GRACE = 5.0


class Place:
    """A run folder, and executors of one kind for the attempts in it."""

    def __init__(self, kind: type[LocalExecutor] | type[SlurmExecutor], run: Path) -> None:
        self.kind, self.run = kind, run
        run.mkdir()
        (run / "spec.toml").write_text("name = 'a'\n[resources]\ncpus = 1\n")
        self.attempts: list[Attempt] = []
        self.newest = self.executor(SLEEP)

    def executor(self, code: str, grace: float = GRACE) -> Executor:
        """A new executor, like that of a restarted daemon; jobs run the code."""
        self.newest = self.kind(lambda run: [sys.executable, "-c", code, str(run)], grace)
        return self.newest

    def attempt(self, number: int = 1) -> Attempt:
        self.attempts.append(Attempt(self.run, number, fresh_id()))
        return self.attempts[-1]

    def launched(self, code: str, grace: float = GRACE) -> tuple[Executor, Attempt]:
        """A started attempt of a job that reports that it is ready."""
        executor, attempt = self.executor(code, grace), self.attempt()
        executor.launch(attempt)
        wait_until((self.run / "ready").exists, "the job is ready")
        return executor, attempt

    def clean_up(self) -> None:
        for attempt in self.attempts:
            wait_until(lambda each=attempt: self._ended(each), "nothing of it runs")

    def _ended(self, attempt: Attempt) -> bool:
        if self.newest.close(attempt):
            return True
        self.newest.stop(attempt, kill=True)
        time.sleep(0.1)
        return False


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "slurm":
        request.getfixturevalue("cluster")
    kinds = {"local": LocalExecutor, "slurm": SlurmExecutor}
    made = Place(kinds[request.param], tmp_path / "a run, 100% \\ odd")
    yield made
    made.clean_up()


def ended(attempt: Attempt) -> ExitRecord:
    wait_until(lambda: read_exit_record(attempt), f"the end; log: {log(attempt)}")
    record = read_exit_record(attempt)
    assert record is not None
    return record


def log(attempt: Attempt) -> str:
    path = attempt.run / LOG
    return path.read_text() if path.exists() else "none"


def is_(liveness: Liveness, executor: Executor, attempt: Attempt) -> None:
    wait_until(lambda: executor.observe([attempt])[attempt] is liveness, f"it is {liveness}")


class TestContract:
    """Every executor."""

    @pytest.mark.parametrize(
        ("code", "status", "number"),
        [
            ("pass", 0, None),
            ("raise SystemExit(5)", 5, None),
            ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", None, signal.SIGKILL),
        ],
    )
    def test_the_exit_status_is_exact(
        self, place: Place, code: str, status: int | None, number: int | None
    ) -> None:
        executor, attempt = place.executor(code), place.attempt()
        assert executor.observe([attempt]) == {attempt: Liveness.UNSTARTED}
        executor.launch(attempt)
        record = ended(attempt)
        assert (record.exit_status, record.signal, record.error) == (status, number, None)
        is_(Liveness.GONE, executor, attempt)
        assert executor.close(attempt)
        assert read_exit_record(attempt) == record

    def test_many_launches_run_an_attempt_once(self, place: Place) -> None:
        code = "import sys, time; open(sys.argv[1] + '/starts', 'a').write('x'); time.sleep(1)"
        attempt = place.attempt()
        launches = [
            threading.Thread(target=place.executor(code).launch, args=[attempt]) for _ in range(3)
        ]
        for launch in launches:
            launch.start()
        for launch in launches:
            launch.join()
        assert ended(attempt).exit_status == 0
        is_(Liveness.GONE, place.newest, attempt)
        place.executor(code).launch(attempt)
        is_(Liveness.GONE, place.newest, attempt)
        assert (place.run / "starts").read_text() == "x"

    def test_a_stop_leaves_time_for_a_checkpoint(self, place: Place) -> None:
        executor, attempt = place.launched(SAVES)
        is_(Liveness.ALIVE, executor, attempt)
        executor.stop(attempt)
        executor.stop(attempt)  # a repeated request has no effect
        assert ended(attempt).exit_status == 143
        assert (place.run / "checkpoint").read_text() == "saved"

    def test_after_the_grace_everything_of_the_job_is_killed(self, place: Place) -> None:
        executor, attempt = place.launched(STUBBORN, grace=0.5)
        child = int((place.run / "child").read_text())
        executor.stop(attempt)
        assert ended(attempt).signal == signal.SIGKILL
        assert not is_alive(child)

    def test_a_killed_process_leaves_nothing_after_close(self, place: Place) -> None:
        executor, attempt = place.launched(STUBBORN)
        child = int((place.run / "child").read_text())
        executor.stop(attempt, kill=True)
        wait_until(lambda: executor.observe([attempt])[attempt] is Liveness.GONE)
        wait_until(lambda: executor.close(attempt), "nothing of the attempt runs")
        wait_until(lambda: not is_alive(child))

    def test_a_new_executor_knows_what_runs(self, place: Place) -> None:
        _, attempt = place.launched(SAVES)
        after = place.executor("raise SystemExit(9)")
        is_(Liveness.ALIVE, after, attempt)
        after.launch(attempt)
        after.stop(attempt)
        assert ended(attempt).exit_status == 143

    def test_a_closed_attempt_never_starts(self, place: Place) -> None:
        code = "import sys; open(sys.argv[1] + '/started', 'w')"
        executor, attempt = place.executor(code), place.attempt()
        assert executor.close(attempt)
        executor.launch(attempt)
        is_(Liveness.GONE, executor, attempt)
        assert not (place.run / "started").exists()
        assert not (place.run / EXIT).exists()

    def test_an_attempt_in_whose_folder_another_works_is_displaced(self, place: Place) -> None:
        other = Attempt(place.run, 7, fresh_id())
        executor, attempt = place.launched(SAVES)
        is_(Liveness.ALIVE, executor, attempt)
        is_(Liveness.DISPLACED, executor, other)
        executor.stop(attempt)
        ended(attempt)
        is_(Liveness.UNSTARTED, executor, other)

    def test_the_next_attempt_follows_in_the_same_folder(self, place: Place) -> None:
        for number in (1, 2):
            executor, attempt = place.executor(f"raise SystemExit({number})"), place.attempt(number)
            wait_until(lambda at=attempt: at.run.exists())
            executor.launch(attempt)
            assert ended(attempt).exit_status == number
            is_(Liveness.GONE, executor, attempt)
            assert own_runner_record(attempt) is not None
