"""The records of attempts in ``runs/JOB/``, which other processes may have written.

Values are validated to the types and ranges that other code relies on, such as a possible pid, or
an exit status that SQLite can store.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from distill.daemon.processes import ProcessIdentity
from distill.fence import attempt_name
from distill.run_directory import Record, Seconds

AttemptNumber = Annotated[int, Field(ge=0, lt=1 << 53)]
AttemptId = Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")]
"""Empty in records of versions without ids"""


class RunnerRecord(Record):
    """The newest attempt that was started in a folder, and its runner (``runner.json``).

    It is a fence: a runner starts only if this is still what the daemon found before launching it.
    ``runner`` is ``None`` if the attempt was closed before it started.
    """

    attempt: AttemptNumber
    id: AttemptId = ""
    runner: ProcessIdentity | None

    @property
    def name(self) -> str:
        """The name of the attempt: ``Attempt.name``."""
        return attempt_name(self.attempt, self.id)


class PendingRecord(Record):
    """An attempt that a cluster has accepted but not started (``pending.json``)."""

    attempt: AttemptNumber
    id: AttemptId = ""
    waiting_for: Annotated[str, Field(min_length=1, max_length=300)]


class StallRecord(Record):
    """An attempt that is silent for longer than its spec allows (``stall.json``)."""

    attempt: AttemptNumber
    id: AttemptId = ""
    minutes: Annotated[float, Field(ge=0, le=1e9)]


class Stop(Record):
    """Why the runner itself stopped a job (``distill.daemon.guards``)."""

    why: Literal["disk", "memory", "time", "stall"]
    reason: Annotated[str, Field(min_length=1, max_length=1000)]
    fail: bool = False
    """The job has failed, as opposed to being interrupted."""
    disk: Annotated[int, Field(ge=0, lt=1 << 53)] = 0
    """Bytes that must be free before it continues"""


class ExitRecord(Record):
    """How one attempt ended, as seen by its runner (``exit.json``); times are epoch seconds."""

    attempt: AttemptNumber
    id: AttemptId = ""
    exit_status: Annotated[int, Field(ge=0, le=255)] | None
    signal: Annotated[int, Field(ge=1, le=64)] | None
    error: str | None
    stopped: Stop | None = None
    out_of_memory: bool = False
    """The kernel killed processes for lack of memory meanwhile"""
    started_at: Seconds
    finished_at: Seconds

    @model_validator(mode="after")
    def _check_end(self) -> Self:
        if (self.exit_status is None) == (self.signal is None):
            raise ValueError("it must have either an exit_status or a signal")
        return self

    @property
    def name(self) -> str:
        """The name of the attempt: ``Attempt.name``."""
        return attempt_name(self.attempt, self.id)
