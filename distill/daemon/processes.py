"""Identifying processes, and killing whole process trees (Linux).

psutil finds and kills process trees. It cannot identify a process in a record: its ``create_time``
changes with the machine's clock, and its ``send_signal`` checks first and then sends by number.
Hence the start time in ticks since boot, and the pidfd.
"""

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from distill.daemon.attempts import Attempt
from distill.fence import TAG_VARIABLE

if TYPE_CHECKING:
    import psutil

RUNNER_MODULE = "distill.daemon.runner"
DIED = 3
"""Exit status of the runner's starter if the runner died without giving a reason"""

_LARGEST_PID = 1 << 22  # <linux/threads.h>, PID_MAX_LIMIT


@dataclass(frozen=True)
class ProcessIdentity:
    """Identifies a process even if its pid is reused."""

    pid: Annotated[int, Field(strict=True, ge=1, le=_LARGEST_PID)]
    start_ticks: Annotated[int, Field(strict=True, ge=0)]
    boot_id: Annotated[str, Field(strict=True, max_length=64)]

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """The process that has ``pid`` now, or ``None``."""
        ticks = _start_ticks(pid)
        return None if ticks is None else cls(pid, ticks, boot_id())

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to exactly this process; False if it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The descriptor pins the process, so the one compared here is the one signalled.
            if ProcessIdentity.of(self.pid) != self:
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True


def boot_id() -> str:
    """An id that changes with every start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def tag(attempt: Attempt) -> str:
    """The value of ``TAG_VARIABLE`` for one attempt."""
    return f"{attempt.run}#{attempt.name}"


def kill_tagged(run: Path, chosen: Callable[[str], bool] = lambda attempt: True) -> int:
    """Kill every process of the ``chosen`` attempts in ``run`` (default: all); returns how many.

    For processes that cannot be found otherwise: after a runner was killed, because torchrun gives
    its ranks their own sessions, and for tasks of `srun`, which are not descendants. It may miss a
    process that starts meanwhile, so call it until it returns 0.
    """
    import psutil

    def matches(process: psutil.Process) -> bool:
        place, _, attempt = _tag_of(process).rpartition("#")
        return place == str(run) and chosen(attempt)

    return _kill(process for process in psutil.process_iter() if matches(process))


def id_option(attempt: Attempt) -> str:
    """The argument of a runner by which it can be found."""
    return f"--id={attempt.id}"


def find_runner(attempt: Attempt) -> ProcessIdentity | None:
    """The runner of this attempt, found by its command line, if its record cannot be used."""
    import psutil

    wanted = {RUNNER_MODULE, str(attempt.run), id_option(attempt)}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if attempt.id and wanted <= {*process.cmdline()}:
                return ProcessIdentity.of(process.pid)
    return None


def kill_descendants() -> int:
    """Kill all descendants of the calling process; returns how many were alive."""
    import psutil

    return _kill(psutil.Process().children(recursive=True))


def _kill(processes: Iterable["psutil.Process"]) -> int:
    import psutil

    alive = 0
    for process in processes:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            process.kill()
        except psutil.NoSuchProcess:
            continue
        alive += 1
    return alive


def _tag_of(process: "psutil.Process") -> str:
    import psutil

    try:
        return str(process.environ().get(TAG_VARIABLE, ""))
    except (psutil.Error, OSError):
        return ""  # not readable for this user, or ended meanwhile


def _start_ticks(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Field 22 (proc(5)); the command in field 2 may contain spaces, brackets and any other bytes.
    return int(text.rpartition(b")")[2].split()[19])
