"""Attempts as processes of this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from curation.files import DISK_ERRORS
from distill.daemon.attempts import Attempt
from distill.daemon.executor import (
    ALONE,
    GRACE_SECONDS,
    JobCommand,
    LaunchError,
    LaunchKilledError,
    Liveness,
)
from distill.daemon.executors.registry import executor
from distill.daemon.machine import Machine, this_machine
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
from distill.last_words import last_line

_LAUNCH_SECONDS = 60.0


@executor("local")
class LocalExecutor:
    """Attempts as processes of this machine, each under a runner that outlives the daemon."""

    def __init__(self, command: JobCommand, grace: float = GRACE_SECONDS) -> None:
        self._command = command
        self._grace = grace

    def capacity(self) -> Machine | None:
        return this_machine()

    def launch(self, attempt: Attempt, environment: Mapping[str, str] = ALONE) -> bool:
        runner = [sys.executable, "-m", RUNNER_MODULE, str(attempt.run), str(attempt.number)]
        fence = [id_option(attempt), f"--after={begins_after(attempt)}"]
        command = ["--grace", str(self._grace), "--", *self._command(attempt.run)]
        try:
            launched = subprocess.run(
                [*runner, *fence, *command],
                env={**os.environ, **environment},
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

    def rebooted_since(self, attempt: Attempt) -> bool:
        record = own_runner_record(attempt)
        return bool(record and record.runner and record.runner.boot_id != boot_id())


def _keep_out(attempt: Attempt) -> None:
    """Make sure that no runner begins the attempt any more."""
    try:
        write_runner_record(attempt, None)
    except OSError as error:
        # Disk full: a runner that is starting now would not find room later either.
        if error.errno not in DISK_ERRORS or find_runner(attempt) is not None:
            raise


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
