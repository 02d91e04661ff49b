"""Where attempts run. Local processes here; a cluster is another class with the same four methods.

The same runner works everywhere and the run folder is the truth: an executor only starts it, says
whether it lives, and stops it. Results and logs are never asked of an executor.
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from distill.daemon.last_words import last_line
from distill.daemon.processes import boot_id, kill_tagged
from distill.daemon.runfolder import (
    FolderInUseError,
    RunnerRecord,
    in_use,
    locked,
    read_runner_record,
    write_runner_record,
)

GRACE_SECONDS = 30.0
"""How long a job may take to write a checkpoint after TERM, before everything of it is killed."""

_LAUNCH_SECONDS = 60.0

JobCommand = Callable[[Path], list[str]]
"""Given the run folder, the argument vector of the job."""


@dataclass(frozen=True)
class Attempt:
    """One start of one job."""

    run: Path
    number: int


class Liveness(StrEnum):
    """What an executor knows of an attempt."""

    UNSTARTED = "unstarted"
    """Its runner never began."""
    ALIVE = "alive"
    GONE = "gone"
    UNREACHABLE = "unreachable"
    """Nobody can tell now. Never a reason to change a state."""


class LaunchError(Exception):
    """An attempt could not be started; the message is one line."""


class Executor(Protocol):
    """What the scheduler needs of a place to run."""

    def launch(self, attempt: Attempt) -> None:
        """Start the attempt, or do nothing where it was started before; ``LaunchError`` else."""

    def observe(self, attempts: Sequence[Attempt]) -> dict[Attempt, Liveness]:
        """What is known of each, in one look."""

    def stop(self, attempt: Attempt, kill: bool = False) -> None:
        """Ask the attempt to end; with ``kill`` end its runner. Returns before it has ended."""

    def close(self, attempt: Attempt) -> bool:
        """Make sure that nothing of an attempt that is not alive runs, now or later.

        False where something still does: ask again.
        """


class LocalExecutor:
    """Attempts as processes of this machine, each under a runner that outlives the daemon."""

    def __init__(self, command: JobCommand, grace: float = GRACE_SECONDS) -> None:
        self._command = command
        self._grace = grace

    def launch(self, attempt: Attempt) -> None:
        runner = [sys.executable, "-m", "distill.daemon.runner"]
        arguments = [str(attempt.run), str(attempt.number), "--grace", str(self._grace)]
        with suppress(subprocess.TimeoutExpired):  # a later look will tell what became of it
            launched = subprocess.run(
                [*runner, *arguments, "--", *self._command(attempt.run)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LAUNCH_SECONDS,
                check=False,
            )
            if launched.returncode != 0:
                raise LaunchError(last_line(launched.stderr.decode(errors="replace")))

    def observe(self, attempts: Sequence[Attempt]) -> dict[Attempt, Liveness]:
        return {attempt: _observe(attempt) for attempt in attempts}

    def stop(self, attempt: Attempt, kill: bool = False) -> None:
        record = read_runner_record(attempt.run)
        if record and record.runner and record.attempt == attempt.number:
            record.runner.send(signal.SIGKILL if kill else signal.SIGTERM)

    def close(self, attempt: Attempt) -> bool:
        try:
            with locked(attempt.run):
                record = read_runner_record(attempt.run)
                if record is None or record.attempt < attempt.number:
                    write_runner_record(attempt.run, RunnerRecord(attempt.number, None))
                return kill_tagged(attempt.run) == 0
        except FolderInUseError:
            return False
        except FileNotFoundError:
            return kill_tagged(attempt.run) == 0


def rebooted_since(attempt: Attempt) -> bool:
    """Whether the machine was restarted after the attempt began."""
    record = read_runner_record(attempt.run)
    return bool(record and record.runner and record.runner.boot_id != boot_id())


def _observe(attempt: Attempt) -> Liveness:
    try:
        if in_use(attempt.run):
            return Liveness.ALIVE
    except OSError:
        return Liveness.UNREACHABLE
    record = read_runner_record(attempt.run)
    if record is None or record.attempt < attempt.number:
        return Liveness.UNSTARTED
    return Liveness.GONE
