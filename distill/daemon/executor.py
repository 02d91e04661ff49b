"""What the scheduler needs of a place where attempts run; `distill.daemon.executors` has them.

The same runner works everywhere and the run folder is the truth: an executor only starts it, says
whether it lives, and stops it. Results and logs are never asked of an executor.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from distill.daemon.attempts import Attempt
from distill.daemon.machine import Machine

GRACE_SECONDS = 30.0
"""How long a job may take to write a checkpoint after TERM, before everything of it is killed."""

JobCommand = Callable[[Path], list[str]]
"""Given the run folder, the argument vector of the job."""


ALONE: Mapping[str, str] = MappingProxyType({})
"""What a job is told that has the machine for itself."""


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

    def capacity(self) -> Machine | None:
        """What the attempts share, to be given out here; ``None`` where the place does that."""

    def launch(self, attempt: Attempt, environment: Mapping[str, str] = ALONE) -> bool:
        """Start the attempt, or do nothing where it was started before; ``LaunchError`` else.

        ``environment`` tells the job of its share of the ``capacity``. False where that takes long:
        a later look will tell what became of it.
        """

    def observe(self, attempts: Sequence[Attempt]) -> dict[Attempt, Liveness]:
        """What is known of each, in one look."""

    def stop(self, attempt: Attempt, kill: bool = False) -> None:
        """Ask the attempt to end; with ``kill`` end its runner. Returns before it has ended."""

    def close(self, attempt: Attempt) -> bool:
        """Make sure that nothing of an attempt that is not alive runs, now or later.

        False where something still does: ask again.
        """

    def rebooted_since(self, attempt: Attempt) -> bool:
        """Whether the machine of the attempt was restarted after it began."""
