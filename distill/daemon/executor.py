"""The interface of executors, the places where attempts run; see `distill.daemon.executors`.

The same runner works everywhere, and the run folder is the source of truth. An executor only
starts the runner, reports whether it is alive, and stops it; it provides no results or logs.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from distill.daemon.attempts import Attempt
from distill.daemon.machine import Machine

GRACE_SECONDS = 30.0
"""Time for a job to write a checkpoint after TERM, before all its processes are killed"""

JobCommand = Callable[[Path], list[str]]
"""Returns the argument vector of the job, given the run folder."""


ALONE: Mapping[str, str] = MappingProxyType({})
"""Environment of a job that has the machine for itself"""


class Liveness(StrEnum):
    """What an executor knows about an attempt."""

    UNSTARTED = "unstarted"
    """Nothing in the run folder shows that its runner started."""
    ALIVE = "alive"
    GONE = "gone"
    DISPLACED = "displaced"
    """Another attempt is the newest in its run folder, and may be alive."""
    UNREACHABLE = "unreachable"
    """Unknown at the moment. Never a reason to change a state."""


class LaunchError(Exception):
    """An attempt could not be started; the message is one line."""


class LaunchKilledError(LaunchError):
    """The process that was starting the attempt was killed; the attempt may be running."""


class Executor(Protocol):
    """A place where attempts run, as the scheduler sees it."""

    def capacity(self) -> Machine | None:
        """The resources for the daemon to assign; ``None`` if the executor assigns them itself."""

    def launch(self, attempt: Attempt, environment: Mapping[str, str] = ALONE) -> bool:
        """Start the attempt if it was not started before; raises ``LaunchError`` on failure.

        ``environment`` tells the job its share of the ``capacity``. Returns False if the start
        takes long, and a later look will show the result.
        """

    def observe(self, attempts: Sequence[Attempt]) -> dict[Attempt, Liveness]:
        """The liveness of each attempt, in one look."""

    def stop(self, attempt: Attempt, kill: bool = False) -> None:
        """Ask the attempt to end; with ``kill``, kill its runner. Returns before it has ended."""

    def close(self, attempt: Attempt) -> bool:
        """Make sure that nothing of a dead attempt is running or will run later.

        Returns False if something is still running: call again.
        """

    def rebooted_since(self, attempt: Attempt) -> bool:
        """Whether the attempt's machine was restarted after the attempt began."""
