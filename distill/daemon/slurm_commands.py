"""Slurm through its commands: listing jobs by name, submitting and cancelling them.

Job ids are not stored, because slurmctld may assign the same ids again after a crash. `sacct` is
not needed, because the run folder records what happened to a job.
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
"""Prefix of the names of our jobs"""

_LOOK_SECONDS = 2.0
_STALE_SECONDS = 60.0
_PAUSES = (2.0, 60.0)
"""The first and the longest pause after a failed query; it doubles."""
_WAIT_SECONDS = 1.0
_ANSWER_SECONDS = 30.0

# Slurm's messages if the same submit may succeed later.
_LATER = re.compile(
    "unable to contact slurm controller|socket timed out|temporarily unable|"
    "resource temporarily unavailable|slurm backup controller in standby|"
    "zero bytes were transmitted|transport endpoint is not connected|"
    "submit ?limit|job submission failed: .*limit, user's size and/or time limits",
    re.IGNORECASE,
)


class SlurmRefusedError(Exception):
    """Slurm will not accept the job."""


class SlurmBusyError(Exception):
    """Slurm may not have accepted the job; it can be tried again."""


@dataclass(frozen=True)
class SlurmEntry:
    """A job that is pending, running or completing in Slurm."""

    state: str
    """PENDING, RUNNING, COMPLETING, ..."""
    reason: str
    """Why it is pending, such as Resources or Priority; None otherwise"""


_SUBMITTED = SlurmEntry("PENDING", "submitted")
Entries = dict[str, list[SlurmEntry]]
"""By name. A job that was submitted twice, because the first result was unknown, occurs twice."""


class SlurmListing:
    """The result of `squeue` for all jobs in one call, refreshed periodically without waiting for
    longer than a moment.
    """

    def __init__(self) -> None:
        self._entries: Entries = {}
        self._added: dict[str, float] = {}
        self._as_of = -float("inf")
        self._asking: subprocess.Popen[bytes] | None = None
        self._refreshed_at = -float("inf")
        self._again_at = -float("inf")
        self._pause = 0.0

    def entries(self, since: float = -float("inf")) -> Entries | None:
        """The newest listing, taken after ``since`` (monotonic clock); ``None`` without one."""
        now = time.monotonic()
        due = now - self._as_of >= _LOOK_SECONDS or self._as_of < since
        if self._asking is None and due and now >= self._again_at:
            self._refresh(now)
        if self._asking is not None:
            self._collect(self._asking)
        known = self._as_of >= max(since, time.monotonic() - _STALE_SECONDS)
        return self._entries if known and not self._pause else None

    def add(self, name: str) -> None:
        """Record a job that was submitted just now, until a later listing."""
        self._added[name] = time.monotonic()
        self._entries.setdefault(name, []).append(_SUBMITTED)

    def _refresh(self, now: float) -> None:
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
        self._refreshed_at = now
        return None

    def _collect(self, asking: subprocess.Popen[bytes]) -> None:
        try:
            output, errors = asking.communicate(timeout=_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            if time.monotonic() - self._refreshed_at < _ANSWER_SECONDS:
                return None
            asking.kill()
            output, errors = asking.communicate()
        self._asking = None
        if asking.returncode != 0:
            return self._fail(last_line(errors.decode(errors="replace")))
        if self._pause:
            _log.info("Slurm answers again")
        self._pause, self._as_of = 0.0, self._refreshed_at
        self._entries = parsed(output.decode(errors="replace").splitlines())
        # `squeue` may have looked before a job was submitted.
        self._added = {name: at for name, at in self._added.items() if at >= self._refreshed_at}
        for name in self._added:
            self._entries.setdefault(name, [_SUBMITTED])
        return None

    def _fail(self, why: str) -> None:
        if not self._pause:
            _log.error("Slurm does not answer (%s); no job changes state because of it", why)
        first, longest = _PAUSES
        self._pause = min(2 * self._pause, longest) or first
        self._again_at = time.monotonic() + self._pause


def parsed(lines: Iterable[str]) -> Entries:
    """Parse the lines ``STATE|REASON|NAME`` of our jobs."""
    entries: Entries = {}
    for line in lines:
        state, _, rest = line.partition("|")
        reason, _, name = rest.partition("|")
        if name.startswith(PREFIX):
            entries.setdefault(name, []).append(SlurmEntry(state, reason))
    return entries


def submit(options: list[str], script: str) -> None:
    """Submit a batch script; ``SlurmRefusedError`` or ``SlurmBusyError`` with Slurm's message."""
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
    text = submitted.stderr.decode(errors="replace")
    if submitted.returncode < 0 or _LATER.search(text):
        raise SlurmBusyError(last_line(text))
    raise SlurmRefusedError(last_line(text))


def cancel(name: str, *options: str) -> None:
    """`scancel` all jobs with this name; repeated if it had no effect."""
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
    """The environment of Slurm's commands, without that of a job the daemon itself may run in."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM_JOB", "SLURM_STEP", "SLURM_TASK", "SLURM_NODE", "SLURM_N"))
    }
    return {**ours, "LC_ALL": "C"}
