"""Slurm by its commands: which jobs it has, by their names; submitting and cancelling them.

An id is never kept: after a crash of slurmctld the same ids are given again. `sacct` is not needed,
as what became of a job stands in its run folder.
"""

import logging
import os
import re
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass

from distill.last_words import last_line

_log = logging.getLogger("distill.daemon")

PREFIX = "distill-"
"""All names of our jobs begin so."""

_LOOK_SECONDS = 2.0
_STALE_SECONDS = 60.0
_PAUSES = (2.0, 60.0)
"""The first and the longest pause after a look that failed; it doubles."""
_WAIT_SECONDS = 1.0
_ANSWER_SECONDS = 30.0

# What Slurm says where the same submit may be taken later.
_LATER = re.compile(
    "unable to contact slurm controller|socket timed out|temporarily unable|"
    "resource temporarily unavailable|slurm backup controller in standby|"
    "zero bytes were transmitted|transport endpoint is not connected|"
    "submit ?limit|job submission failed: .*limit, user's size and/or time limits",
    re.IGNORECASE,
)


class SlurmRefusedError(Exception):
    """Slurm does not take the job, now or later."""


class SlurmBusyError(Exception):
    """Slurm may not have taken the job; one may try again."""


@dataclass(frozen=True)
class SlurmEntry:
    """A job that waits, runs or comes to its end in Slurm."""

    state: str
    """PENDING, RUNNING, COMPLETING, ..."""
    reason: str
    """Why it waits, such as Resources or Priority; None where it does not"""


Entries = dict[str, list[SlurmEntry]]
"""By name; a job that was submitted twice, in doubt whether it had been, is there twice."""


class SlurmListing:
    """What `squeue` says, for all jobs in one call, asked again after a while and never waited for
    longer than a moment.
    """

    def __init__(self) -> None:
        self._entries: Entries = {}
        self._as_of = -float("inf")
        self._asking: subprocess.Popen[bytes] | None = None
        self._asked_at = -float("inf")
        self._again_at = -float("inf")
        self._pause = 0.0

    def entries(self, since: float = -float("inf")) -> Entries | None:
        """The newest listing, of after ``since`` (on the monotonic clock); ``None`` without one."""
        now = time.monotonic()
        due = now - self._as_of >= _LOOK_SECONDS or self._as_of < since
        if self._asking is None and due and now >= self._again_at:
            self._ask(now)
        if self._asking is not None:
            self._collect(self._asking)
        known = self._as_of >= max(since, time.monotonic() - _STALE_SECONDS)
        return self._entries if known and not self._pause else None

    def add(self, name: str) -> None:
        """A job was submitted after the newest listing."""
        self._entries.setdefault(name, []).append(SlurmEntry("PENDING", "submitted"))

    def _ask(self, now: float) -> None:
        command = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%T|%r|%j"]
        try:
            self._asking = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
            )
        except OSError as error:
            return self._fail(f"squeue cannot be run: {error}")
        self._asked_at = now
        return None

    def _collect(self, asking: subprocess.Popen[bytes]) -> None:
        try:
            output, errors = asking.communicate(timeout=_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            if time.monotonic() - self._asked_at < _ANSWER_SECONDS:
                return None
            asking.kill()
            output, errors = asking.communicate()
        self._asking = None
        if asking.returncode != 0:
            return self._fail(last_line(errors.decode(errors="replace")))
        if self._pause:
            _log.info("Slurm answers again")
        self._pause, self._as_of = 0.0, self._asked_at
        self._entries = parsed(output.decode(errors="replace").splitlines())
        return None

    def _fail(self, why: str) -> None:
        if not self._pause:
            _log.error("Slurm does not answer (%s); no job changes state because of it", why)
        first, longest = _PAUSES
        self._pause = min(2 * self._pause, longest) or first
        self._again_at = time.monotonic() + self._pause


def parsed(lines: Iterable[str]) -> Entries:
    """The lines ``STATE|REASON|NAME`` of jobs of ours."""
    entries: Entries = {}
    for line in lines:
        state, _, rest = line.partition("|")
        reason, _, name = rest.partition("|")
        if name.startswith(PREFIX):
            entries.setdefault(name, []).append(SlurmEntry(state, reason))
    return entries


def submit(options: list[str], script: str) -> None:
    """Submit a batch script; else ``SlurmRefusedError`` or ``SlurmBusyError`` in Slurm's words."""
    try:
        submitted = subprocess.run(
            ["sbatch", "--parsable", "--no-requeue", *options],
            input=script.encode(),
            capture_output=True,
            timeout=_ANSWER_SECONDS,
            env=environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SlurmBusyError(f"sbatch did not end in {_ANSWER_SECONDS:.0f} s") from None
    except OSError as error:
        raise SlurmRefusedError(
            f"sbatch cannot be run: {error}; check that Slurm is installed on this machine"
        ) from None
    if submitted.returncode == 0:
        return
    said = submitted.stderr.decode(errors="replace")
    if submitted.returncode < 0 or _LATER.search(said):
        raise SlurmBusyError(last_line(said))
    raise SlurmRefusedError(last_line(said))


def cancel(name: str, *options: str) -> None:
    """`scancel` of all jobs of this name; it is asked again where that was in vain."""
    command = ["scancel", "--quiet", f"--user={os.getuid()}", f"--name={name}", *options]
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_SECONDS,
            env=environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        _log.error("scancel failed: %s", error)


def environment() -> dict[str, str]:
    """That of Slurm's commands: not that of a job or step that the daemon itself may run in."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM_JOB", "SLURM_STEP", "SLURM_TASK", "SLURM_NODE", "SLURM_N"))
    }
    return {**ours, "LC_ALL": "C"}
