"""Real daemons, real jobs, real kills."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curation.workspace import Workspace
from distill.daemon import client, daemon_lock
from distill.daemon.attempts import Attempt
from distill.daemon.executor import Executor
from distill.daemon.executors.local import LocalExecutor
from distill.daemon.executors.slurm import SlurmExecutor
from distill.daemon.job import Job
from distill.daemon.placing import Placing
from distill.daemon.states import State
from distill.daemon.submitting import Answer
from tests.distill.daemon.daemon_under_test import accept

SCRIPT = Path(__file__).with_name("daemon_under_test.py")
PATIENCE = 90.0


def spec(name: str, code: str = "pass") -> str:
    """A spec of the daemon under test."""
    return f"name = '{name}'\ncode = '''\n{code}\n'''\n"


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain: {what}"
        time.sleep(0.01)


class Harness:
    """One workspace and the daemons that come and go in it."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)
        self.daemon: subprocess.Popen[bytes] | None = None

    executor: type[LocalExecutor] | type[SlurmExecutor] = LocalExecutor

    def start(self, slots: int = 1, grace: float = 10.0, wait: bool = True) -> None:
        name = "slurm" if self.executor is SlurmExecutor else "local"
        arguments = [str(self.workspace.root), str(slots), str(grace), name]
        log = (self.workspace.root.parent / "daemon-output.txt").open("ab")
        with log:
            self.daemon = subprocess.Popen(
                [sys.executable, str(SCRIPT), *arguments], stdout=log, stderr=log
            )
        if wait:
            wait_until(lambda: client.health(self.workspace), "the daemon answers")

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send the daemon a signal; its exit status."""
        assert self.daemon is not None
        self.daemon.send_signal(number)
        status = self.daemon.wait(PATIENCE)
        self.daemon = None
        return status

    def submit(
        self, name: str, code: str = "pass", replace: bool = False, more: str = "", **placing: Any
    ) -> Answer:
        asked = (name, spec(name, code) + more, replace, accept, Placing(**placing))
        return client.submit(self.workspace, *asked).answer

    def job(self, name: str) -> Job:
        return client.find_job(self.workspace, name)

    def run(self, name: str) -> Path:
        return self.workspace.runs / name

    def wait_for(self, name: str, state: State) -> Job:
        wait_until(lambda: self.job(name).state is state, f"{name} is {state}")
        return self.job(name)

    def wait_for_file(self, name: str, file: str) -> str:
        """Wait until the job has written a non-empty file into its run folder; its text."""
        path = self.run(name) / file
        wait_until(lambda: path.exists() and path.read_text(), f"{name} wrote {file}")
        return path.read_text()

    def clean_up(self) -> None:
        if self.daemon is not None:
            self.kill()
        # A runner that the daemon has just forked has the lock until it executes its program.
        wait_until(lambda: daemon_lock.find(self.workspace) is None, "no daemon serves")
        for job in client.jobs(self.workspace):
            attempt = Attempt(self.run(job.name), job.attempt, job.attempt_id)
            end(attempt, self.executor(lambda run: []))


def end(attempt: Attempt, executor: Executor) -> None:
    """Kill everything of an attempt, also a runner that is only about to begin."""

    def ended() -> bool:
        executor.stop(attempt, kill=True)
        return executor.close(attempt)

    if attempt.run.exists():
        wait_until(ended, f"{attempt} has ended")


def is_alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    os.kill(pid, number)


def make_odd(path: Path, kind: str) -> None:
    """Put something at ``path`` that is not a file, or more than anybody wants to read."""
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(2 << 30)
    else:
        path.symlink_to({"loop": path.name, "nowhere": "no-such-file", "zero": "/dev/zero"}[kind])
