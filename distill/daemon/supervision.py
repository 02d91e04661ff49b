"""Running a command of an attempt to its end, and killing whatever it leaves behind: used by the
runner, and on each node of a job on several.
"""

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from distill.daemon.processes import kill_descendants
from distill.fence import TAG_VARIABLE, is_displaced
from distill.process import adopt_orphans, on_stop

LOOK_SECONDS = 1.0
"""Seconds between two checks whether another attempt has started"""


class StopRequest:
    """Forwards the first TERM, INT, HUP or USR1 to the job, and sends KILL after the grace.

    Only the job's first process gets the signal: it knows its own children, and a worker that dies
    first would disturb the last checkpoint. Slurm sends USR1 when a job's time is almost over, and
    `srun` forwards it to its tasks (on TERM it kills them).
    """

    def __init__(self, grace: float, stop_with: signal.Signals = signal.SIGTERM) -> None:
        self._grace, self._stop_with = grace, stop_with
        self.received: signal.Signals | None = None
        """The first signal that came"""
        self._job: int | None = None
        on_stop(self._on_stop, signal.SIGUSR1)
        signal.signal(signal.SIGALRM, self._on_alarm)

    def watch(self, job: int) -> None:
        """Set the job to the process of this pidfd."""
        self._job = job
        if self.received:
            self._send(self._stop_with)

    def wait(self, seconds: float) -> None:
        """Sleep until the time is over or a stop is requested."""
        deadline = time.monotonic() + seconds
        while not self.received and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.25))

    def end_job(self) -> None:
        """Stop the job without a user's request, and without a time limit for the rest."""
        self._send(self._stop_with)

    def kill(self) -> None:
        """Kill the job at once."""
        self._send(signal.SIGKILL)

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            return
        self.received = signal.Signals(number)
        signal.setitimer(signal.ITIMER_REAL, max(self._grace, 0.001))
        self._send(self._stop_with)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        self.kill()

    def _send(self, number: signal.Signals) -> None:
        if self._job is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._job, number)


def _ignore_usr1() -> None:
    """Slurm sends a step's signals to each of its processes; the job must see only the TERM."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def run_to_end(command: list[str], attempt_tag: str, stop: StopRequest) -> int:
    """The exit status of the command, or minus the number of the signal that ended it.

    Afterwards nothing that it started is left. The command is killed when its attempt is no longer
    the newest in its run folder. Raises ``OSError`` if it cannot be started.
    """
    adopt_orphans()
    run, _, name = attempt_tag.rpartition("#")
    job = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env={**os.environ, TAG_VARIABLE: attempt_tag},
        start_new_session=True,
        preexec_fn=_ignore_usr1,
    )
    process = os.pidfd_open(job.pid)
    stop.watch(process)
    while (status := _ended(job.pid, process)) is None:
        if is_displaced(Path(run), name):
            note("another attempt has started, or this one was given up: killing its job")
            stop.kill()
    job.returncode = status
    _end_descendants()
    return status


def _ended(job: int, process: int) -> int | None:
    """How the job ended; ``None`` if it has not within ``LOOK_SECONDS``.

    Adopted orphans of the job must be reaped too.
    """
    ended = select.poll()
    ended.register(process, select.POLLIN)
    ended.poll(LOOK_SECONDS * 1000)
    while (child := os.waitpid(-1, os.WNOHANG))[0]:
        if child[0] == job:
            return os.waitstatus_to_exitcode(child[1])
    return None


def _end_descendants() -> None:
    while kill_descendants():
        _reap()
        time.sleep(0.02)
    _reap()


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def note(text: str) -> None:
    """Write a line of the supervisor's own to the log."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    with suppress(OSError):
        os.write(2, f"--- {now}: {text}\n".encode())
