"""The supervisor of one attempt of a job: ``python -m distill.daemon.runner RUN N ... -- COMMAND``.

The command returns when the actual runner, a process in its own session, has locked the run folder.
The runner outlives the daemon that started it. It adopts every orphan of the job, forwards a TERM,
kills whatever is left of the job at its end, and writes ``exit.json`` last. In the batch script of
a Slurm job the command is the runner itself.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from curation.files import DISK_ERRORS
from distill.daemon.attempts import Attempt
from distill.daemon.guards import GuardWatch, guards_of
from distill.daemon.processes import DIED, ProcessIdentity, kill_tagged, tag
from distill.daemon.records import ExitRecord, Stop
from distill.daemon.runfolder import (
    FolderInUseError,
    begins_after,
    frozen_spec,
    locked,
    own_runner_record,
    remove_record,
    reserve_records,
    write_exit_record,
    write_runner_record,
)
from distill.daemon.supervision import StopRequest, note, run_to_end
from distill.fence import is_displaced
from distill.process import print_to
from distill.run_directory import EXIT, FAILURE, LOG, WAITING
from distill.signals import signal_name

_LOCK_SECONDS = 5.0
_CANNOT_START = 127  # as in a shell
_READY = b"ready"
_LONGEST_PAUSE = 30.0
_TIME_OVER = Stop(why="time", reason="the time that Slurm gave it was almost over")
_NOT_OURS = 1
"""The exit status if there is none from a job"""


def main(arguments: list[str]) -> int:
    """Start the runner; returns 0 when the attempt is running, or was started before."""
    parser = argparse.ArgumentParser(prog="python -m distill.daemon.runner")
    parser.add_argument("run", type=Path)
    parser.add_argument("attempt", type=int)
    parser.add_argument("--id", required=True, help="tells it from attempts of other queues")
    parser.add_argument("--after", required=True, help="the attempt that must be the newest so far")
    parser.add_argument("--grace", type=float, required=True, help="seconds from TERM to KILL")
    parser.add_argument("--foreground", action="store_true", help="be the runner itself")
    parser.add_argument(
        "--stop-with", choices=["TERM", "USR1"], default="TERM", help="the signal that ends the job"
    )
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    attempt = Attempt(options.run, options.attempt, options.id)
    stop_with = signal.Signals[f"SIG{options.stop_with}"]
    run = partial(_run, attempt, options.after, options.command, options.grace, stop_with)
    if options.foreground:
        return run(lambda message: None)
    reader, writer = os.pipe()
    if os.fork() > 0:
        os.close(writer)
        return _report(reader)
    os.close(reader)
    os.setsid()
    with os.fdopen(writer, "wb") as pipe:
        run(partial(_say, pipe))
    return 0


def _report(reader: int) -> int:
    """Wait for the runner to report its start; returns the corresponding exit status."""
    with os.fdopen(reader, "rb") as pipe:
        message = pipe.read()
    if message == _READY:
        return 0
    sys.stderr.write(f"{message.decode(errors='replace').strip()}\n")
    return 1 if message else DIED


def _say(pipe: BinaryIO, message: bytes) -> None:
    """Report to the process that waits for the start, once. Its daemon may have ended."""
    with suppress(OSError, ValueError):
        pipe.write(message)
        pipe.close()


def _run(
    attempt: Attempt,
    after: str,
    command: list[str],
    grace: float,
    stop_with: signal.Signals,
    say: Callable[[bytes], None],
) -> int:
    """Lock the folder, run the job, write the exit record; returns the job's exit status."""
    run = attempt.run
    try:
        if own_runner_record(attempt) is not None:  # it is running, has run, or was closed
            say(_READY)
            return 0
        print_to(run / LOG)
        with locked(run, wait=_LOCK_SECONDS):
            stop = StopRequest(grace, stop_with)
            begins = _begin(attempt, after)
            say(_READY)
            if not begins:
                return 0
            held = _folder(run)
            record = _supervise(attempt, command, stop, grace)
            if record is None or _folder(run) != held:
                note(
                    "another attempt has started, or the folder is gone: not recording the end of "
                    "this one"
                )
                return _NOT_OURS
            _record_end(run, record, stop)
            return _NOT_OURS if record.exit_status is None else record.exit_status
    except (OSError, FolderInUseError) as error:
        say(str(error).encode())
        note(f"the runner stopped: {error}")
        return _NOT_OURS


def _folder(run: Path) -> tuple[int, int] | None:
    """The identity of the folder with this name, or ``None``."""
    try:
        status = run.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _begin(attempt: Attempt, after: str) -> bool:
    """Take the attempt with the folder locked; False if it, or a later one, was taken or closed.

    ``after`` is the attempt that was the newest when the daemon decided to launch this one.
    """
    if own_runner_record(attempt) is not None or begins_after(attempt) != after:
        return False
    while kill_tagged(attempt.run):
        time.sleep(0.05)
    for old in (EXIT, FAILURE, WAITING):
        remove_record(attempt.run / old)
    reserve_records(attempt.run)
    write_runner_record(attempt, ProcessIdentity.of(os.getpid()))
    return True


def _record_end(run: Path, record: ExitRecord, stop: StopRequest) -> None:
    """Write the exit record, waiting while the disk is full; a cancel ends the wait.

    The folder stays locked meanwhile, so that the ended job is not started again.
    """
    pause = 1.0
    while True:
        try:
            return write_exit_record(run, record)
        except OSError as error:
            if error.errno not in DISK_ERRORS or stop.received:
                raise
            note(f"its end cannot be recorded ({error.strerror}); trying again in {pause:.0f} s")
        stop.wait(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _supervise(
    attempt: Attempt, command: list[str], stop: StopRequest, grace: float
) -> ExitRecord | None:
    """Run the command to its end, and kill whatever it leaves behind.

    Returns ``None`` if another attempt has started meanwhile, so that this end is irrelevant.
    """
    started_at = time.time()
    note(f"attempt {attempt.number} starts")
    watch = GuardWatch(guards_of(attempt, frozen_spec(attempt.run) or ""), stop, grace)
    try:
        with watch:
            status, error = run_to_end(command, tag(attempt), stop), None
    except OSError as trouble:
        status, error = _CANNOT_START, f"cannot start the job: {trouble}"
    while kill_tagged(attempt.run, lambda name: name == attempt.name):
        time.sleep(0.02)
    if status:
        watch.look_at_end()
    record = ExitRecord(
        attempt=attempt.number,
        id=attempt.id,
        exit_status=status if status >= 0 else None,
        signal=-status if status < 0 else None,
        error=error,
        stopped=watch.stopped or (_TIME_OVER if stop.received == signal.SIGUSR1 else None),
        out_of_memory=watch.killed_for_memory,
        started_at=started_at,
        finished_at=time.time(),
    )
    ended = f"by {signal_name(-status)}" if status < 0 else f"with status {status}"
    note(f"attempt {attempt.number} ended {ended}")
    return None if is_displaced(attempt.run, attempt.name) else record


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
