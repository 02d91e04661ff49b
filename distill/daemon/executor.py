"""Where attempts run. Local processes here; a cluster is another class with the same four methods.

The same runner works everywhere and the run folder is the truth: an executor only starts it, says
whether it lives, and stops it. Results and logs are never asked of an executor.
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from curation.files import DISK_ERRORS
from distill.daemon.attempts import Attempt
from distill.daemon.last_words import last_line
from distill.daemon.processes import (
    DIED,
    RUNNER_MODULE,
    boot_id,
    find_runner,
    id_option,
    kill_tagged,
)
from distill.daemon.runfolder import (
    FolderInUseError,
    begins_after,
    in_use,
    locked,
    own_runner_record,
    read_runner_record,
    write_runner_record,
)

GRACE_SECONDS = 30.0
"""How long a job may take to write a checkpoint after TERM, before everything of it is killed."""

_LAUNCH_SECONDS = 60.0

JobCommand = Callable[[Path], list[str]]
"""Given the run folder, the argument vector of the job."""


class Liveness(StrEnum):
    """What an executor knows of an attempt."""

    UNSTARTED = "unstarted"
    """There is no sign in its run folder that its runner began."""
    ALIVE = "alive"
    GONE = "gone"
    DISPLACED = "displaced"
    """Another attempt than this one is the newest in its run folder, and may be alive."""
    UNREACHABLE = "unreachable"
    """Nobody can tell now. Never a reason to change a state."""


class LaunchError(Exception):
    """An attempt could not be started; the message is one line."""


class LaunchKilledError(LaunchError):
    """Whoever was to start the attempt was killed; the attempt may be under way all the same."""


class Executor(Protocol):
    """What the scheduler needs of a place to run."""

    def launch(self, attempt: Attempt) -> bool:
        """Start the attempt, or do nothing where it was started before; ``LaunchError`` else.

        False where that takes long: a later look will tell what became of it.
        """

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

    def launch(self, attempt: Attempt) -> bool:
        runner = [sys.executable, "-m", RUNNER_MODULE, str(attempt.run), str(attempt.number)]
        fence = [id_option(attempt), f"--after={begins_after(attempt)}"]
        command = ["--grace", str(self._grace), "--", *self._command(attempt.run)]
        try:
            launched = subprocess.run(
                [*runner, *fence, *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LAUNCH_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        if launched.returncode < 0 or launched.returncode == DIED:
            raise LaunchKilledError("the runner was killed at its start")
        if launched.returncode != 0:
            raise LaunchError(last_line(launched.stderr.decode(errors="replace")))
        return True

    def observe(self, attempts: Sequence[Attempt]) -> dict[Attempt, Liveness]:
        return {attempt: _observe(attempt) for attempt in attempts}

    def stop(self, attempt: Attempt, kill: bool = False) -> None:
        record = own_runner_record(attempt)
        runner = find_runner(attempt) if record is None else record.runner
        if runner is not None:
            runner.send(signal.SIGKILL if kill else signal.SIGTERM)

    def close(self, attempt: Attempt) -> bool:
        try:
            with locked(attempt.run):
                if own_runner_record(attempt) is None:
                    _keep_out(attempt)
                return kill_tagged(attempt.run) == 0
        except FolderInUseError:
            return False
        except (FileNotFoundError, NotADirectoryError):
            return kill_tagged(attempt.run) == 0


def _keep_out(attempt: Attempt) -> None:
    """See to it that no runner begins the attempt any more."""
    try:
        write_runner_record(attempt, None)
    except OSError as error:
        # A full disk: then nobody may be under way that could find room later.
        if error.errno not in DISK_ERRORS or find_runner(attempt) is not None:
            raise


def rebooted_since(attempt: Attempt) -> bool:
    """Whether the machine was restarted after the attempt began."""
    record = own_runner_record(attempt)
    return bool(record and record.runner and record.runner.boot_id != boot_id())


def _observe(attempt: Attempt) -> Liveness:
    try:
        held = in_use(attempt.run)
    except OSError:
        return Liveness.UNREACHABLE
    newest = read_runner_record(attempt.run)
    if newest is not None and newest.name == attempt.name:
        return Liveness.ALIVE if held else Liveness.GONE
    if held and (newest is None or find_runner(attempt) is not None):
        return Liveness.ALIVE
    if newest is None:
        return Liveness.UNSTARTED
    return Liveness.DISPLACED if held else Liveness.UNSTARTED
