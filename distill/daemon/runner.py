"""The supervisor of one attempt of a job: ``python -m distill.daemon.runner RUN N ... -- COMMAND``.

It returns when the runner proper, a process in a session of its own, holds the run folder. That
one outlives the daemon that started it. It takes every orphan of the job as its own child, passes
a TERM on, kills whatever is left of the job at its end, and writes ``exit.json`` last of all.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from curation.files import DISK_ERRORS
from distill.daemon.attempts import Attempt
from distill.daemon.processes import (
    DIED,
    TAG_VARIABLE,
    ProcessIdentity,
    kill_descendants,
    kill_tagged,
    tag,
)
from distill.daemon.records import ExitRecord
from distill.daemon.runfolder import (
    FolderInUseError,
    begins_after,
    locked,
    own_runner_record,
    remove_record,
    reserve_records,
    write_exit_record,
    write_runner_record,
)
from distill.process import adopt_orphans, on_stop, print_to
from distill.run_directory import EXIT, FAILURE, LOG, WAITING
from distill.signals import signal_name

_LOCK_SECONDS = 5.0
_CANNOT_START = 127  # as a shell says it
_READY = b"ready"
_LONGEST_PAUSE = 30.0


def main(arguments: list[str]) -> int:
    """Start the runner proper; 0 when the attempt is under way, or was before."""
    parser = argparse.ArgumentParser(prog="python -m distill.daemon.runner")
    parser.add_argument("run", type=Path)
    parser.add_argument("attempt", type=int)
    parser.add_argument("--id", required=True, help="tells the attempt from those of other queues")
    parser.add_argument("--after", required=True, help="the attempt that must be the newest so far")
    parser.add_argument("--grace", type=float, required=True, help="seconds from TERM to KILL")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    reader, writer = os.pipe()
    if os.fork() > 0:
        os.close(writer)
        return _report(reader)
    os.close(reader)
    os.setsid()
    attempt = Attempt(options.run, options.attempt, options.id)
    _run(attempt, options.after, options.command, options.grace, writer)
    return 0


def _report(reader: int) -> int:
    """Wait for the runner proper to say how its start went: the exit status that tells it."""
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    if said == _READY:
        return 0
    sys.stderr.write(f"{said.decode(errors='replace').strip()}\n")
    return 1 if said else DIED


def _run(attempt: Attempt, after: str, command: list[str], grace: float, ready: int) -> None:
    """Hold the folder, run the job, leave the exit record."""
    run = attempt.run
    try:
        print_to(run / LOG)
        with locked(run, wait=_LOCK_SECONDS):
            stop = _StopRequest(grace)
            if _begin(attempt, after):
                os.write(ready, _READY)
                os.close(ready)
                held = _folder(run)
                record = _supervise(attempt, command, stop)
                if _folder(run) == held:
                    _record_end(run, record, stop)
                else:
                    _note("the run folder was removed or renamed: its end is not recorded")
            else:
                os.write(ready, _READY)
    except (OSError, FolderInUseError) as error:
        # The daemon may no longer listen: then the log has it.
        with suppress(OSError):
            os.write(ready, str(error).encode())
        _note(f"the runner stopped: {error}")


def _folder(run: Path) -> tuple[int, int] | None:
    """Which folder has this name; ``None`` where none has."""
    try:
        status = run.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _begin(attempt: Attempt, after: str) -> bool:
    """Take the attempt, with the folder held; False where it, or any after it, was taken or closed.

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


def _record_end(run: Path, record: ExitRecord, stop: "_StopRequest") -> None:
    """Write the exit record, however long the disk is full; a cancel ends the waiting.

    The folder stays held meanwhile: a job that has ended is not run again for that.
    """
    pause = 1.0
    while True:
        try:
            return write_exit_record(run, record)
        except OSError as error:
            if error.errno not in DISK_ERRORS or stop.asked:
                raise
            _note(f"its end cannot be recorded ({error.strerror}); tried again in {pause:.0f} s")
        stop.wait(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


class _StopRequest:
    """Passes the first TERM, INT or HUP on to the job as TERM, and sends KILL after the grace.

    Only the job's first process gets the TERM: it knows its own children, and a worker that dies
    first would disturb the last checkpoint.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self.asked = False
        self._job: int | None = None
        on_stop(self._on_stop, signal.SIGHUP)
        signal.signal(signal.SIGALRM, self._on_alarm)

    def watch(self, job: int) -> None:
        """From now on the job is the process behind this pidfd."""
        self._job = job
        if self.asked:
            self._send(signal.SIGTERM)

    def wait(self, seconds: float) -> None:
        """Sleep until the time is over or a stop is asked for."""
        deadline = time.monotonic() + seconds
        while not self.asked and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.25))

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            return
        self.asked = True
        signal.setitimer(signal.ITIMER_REAL, max(self._grace, 0.001))
        self._send(signal.SIGTERM)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._job is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._job, number)


def _supervise(attempt: Attempt, command: list[str], stop: _StopRequest) -> ExitRecord:
    """Run the command to its end, and end whatever it leaves behind."""
    adopt_orphans()
    started_at = time.time()
    _note(f"attempt {attempt.number} starts")
    try:
        status, error = _run_to_end(command, tag(attempt), stop), None
    except OSError as trouble:
        status, error = _CANNOT_START, f"the job cannot be started: {trouble}"
    _end_descendants()
    record = ExitRecord(
        attempt=attempt.number,
        id=attempt.id,
        exit_status=status if status >= 0 else None,
        signal=-status if status < 0 else None,
        error=error,
        started_at=started_at,
        finished_at=time.time(),
    )
    ended = f"by {signal_name(-status)}" if status < 0 else f"with status {status}"
    _note(f"attempt {attempt.number} ended {ended}")
    return record


def _run_to_end(command: list[str], attempt_tag: str, stop: _StopRequest) -> int:
    """The exit status of the command, or minus the number of the signal that ended it."""
    job = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env={**os.environ, TAG_VARIABLE: attempt_tag},
        start_new_session=True,
    )
    stop.watch(os.pidfd_open(job.pid))
    # Any child: orphans of the job became ours and have to be reaped too.
    ended, status = os.waitpid(-1, 0)
    while ended != job.pid:
        ended, status = os.waitpid(-1, 0)
    job.returncode = os.waitstatus_to_exitcode(status)
    return job.returncode


def _end_descendants() -> None:
    while kill_descendants():
        _reap()
        time.sleep(0.02)
    _reap()


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _note(text: str) -> None:
    """A line of the runner's own in the log."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    with suppress(OSError):
        os.write(2, f"--- {now}: {text}\n".encode())


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
