"""Which process is which, and the end of a whole family of them (Linux).

psutil finds and kills families. It cannot name a process for a record: its ``create_time`` moves
with the machine's clock, and its ``send_signal`` looks first and then sends by number. Hence the
start in ticks since boot, and the pidfd.
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
"""Exit status of what starts a runner, where that one died and did not say why."""

_LARGEST_PID = 1 << 22  # <linux/threads.h>, PID_MAX_LIMIT


@dataclass(frozen=True)
class ProcessIdentity:
    """A process named so that a reused pid cannot pass for it."""

    pid: Annotated[int, Field(strict=True, ge=1, le=_LARGEST_PID)]
    start_ticks: Annotated[int, Field(strict=True, ge=0)]
    boot_id: Annotated[str, Field(strict=True, max_length=64)]

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """The process that has ``pid`` now; ``None`` where there is none."""
        ticks = _start_ticks(pid)
        return None if ticks is None else cls(pid, ticks, boot_id())

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to exactly this process; False where it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            # The descriptor pins the process, so what is compared now is what gets the signal.
            if ProcessIdentity.of(self.pid) != self:
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True


def boot_id() -> str:
    """Changes with every start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def tag(attempt: Attempt) -> str:
    """The value of ``TAG_VARIABLE`` for one attempt."""
    return f"{attempt.run}#{attempt.name}"


def kill_tagged(run: Path, chosen: Callable[[str], bool] = lambda attempt: True) -> int:
    """Kill every process of the ``chosen`` attempts in ``run``, all unless said; how many lived.

    Meant for what has no other mark left: after a runner's violent death, since torchrun gives its
    ranks sessions of their own, and for the tasks of `srun`, which are nobody's descendants. A
    process started while this looks may be missed, so call again until it says 0.
    """
    import psutil

    def is_meant(process: psutil.Process) -> bool:
        place, _, attempt = _tag_of(process).rpartition("#")
        return place == str(run) and chosen(attempt)

    return _kill(process for process in psutil.process_iter() if is_meant(process))


def id_option(attempt: Attempt) -> str:
    """The argument of a runner by which it can be found."""
    return f"--id={attempt.id}"


def find_runner(attempt: Attempt) -> ProcessIdentity | None:
    """The runner of this attempt by its command line, for where its record cannot be used."""
    import psutil

    wanted = {RUNNER_MODULE, str(attempt.run), id_option(attempt)}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if attempt.id and wanted <= {*process.cmdline()}:
                return ProcessIdentity.of(process.pid)
    return None


def kill_descendants() -> int:
    """Kill everything below the calling process; the number that was alive."""
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
        return ""  # not ours to read, or gone meanwhile


def _start_ticks(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Field 22 (proc(5)); the command in field 2 may hold spaces and brackets.
    return int(text.rpartition(")")[2].split()[19])
