"""The records in ``runs/JOB/`` and ``daemon/``, as other processes may have written them.

Each is read through ``curation.json_text`` into one of these models, so what is read has the types
and ranges that all others count on: a pid that the system can have, an exit status that SQLite can
hold. Keys that a later version adds are let through.
"""

from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, RootModel, model_validator

from curation.errors import UserError
from curation.files import UnreadableError
from curation.json_text import read_json as parsed
from curation.json_text import read_record
from distill.daemon.attempts import attempt_name
from distill.daemon.processes import ProcessIdentity

_LARGEST = 16 << 20
"""Bytes: an evaluation of a hundred candidates on many sets has less than one."""

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Seconds = Annotated[FiniteFloat, Field(ge=0, lt=1e12)]
Name = Annotated[str, Field(min_length=1, max_length=1000)]
AttemptNumber = Annotated[int, Field(ge=0, lt=1 << 53)]
AttemptId = Annotated[str, Field(pattern=r"^[0-9a-f]{0,64}$")]
"""Empty in records of the versions that gave none."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class _Shown(BaseModel):
    """A record that is shown as it is, with keys of later versions."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")


class RunnerRecord(_Record):
    """The newest attempt that was started in a folder, and its runner (``runner.json``).

    It is a fence: a runner begins only where this is what the daemon found before it launched it.
    ``runner`` is ``None`` where the attempt was closed before it began.
    """

    attempt: AttemptNumber
    id: AttemptId = ""
    runner: ProcessIdentity | None

    @property
    def name(self) -> str:
        """That of the attempt: ``Attempt.name``."""
        return attempt_name(self.attempt, self.id)


class ExitRecord(_Record):
    """What the runner saw of the end of one attempt (``exit.json``); times in epoch seconds."""

    attempt: AttemptNumber
    id: AttemptId = ""
    exit_status: Annotated[int, Field(ge=0, le=255)] | None
    signal: Annotated[int, Field(ge=1, le=64)] | None
    error: str | None
    started_at: Seconds
    finished_at: Seconds

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if (self.exit_status is None) == (self.signal is None):
            raise ValueError("it must have either an exit_status or a signal")
        return self

    @property
    def name(self) -> str:
        """That of the attempt: ``Attempt.name``."""
        return attempt_name(self.attempt, self.id)


class Failure(_Record):
    """The job's own words on why it failed (``failure.json``)."""

    reason: Annotated[str, Field(pattern=r"\S")]
    hint: str | None = None


class Waiting(_Record):
    """The step of another job that a job needs (``waiting.json``)."""

    step: Annotated[str, Field(pattern=r"^[a-z]{1,20}-[0-9a-f]{16}$")]
    """Its folder in ``steps/``"""
    name: Name
    """As the waiting job calls it"""
    job: str | None
    """Who does it, where that is known"""


class StepRecord(_Shown):
    """One step of ``steps.json``; ``distill.pipeline.record.StepState`` says what it means."""

    name: Name
    kind: str = ""
    state: str
    id: str | None = None
    path: str | None = None
    seconds: Seconds | None = None
    scores: dict[str, FiniteFloat] | None = None
    note: str | None = None
    images: Count | None = None
    peak_memory_bytes: Count | None = None
    peak_gpu_memory_bytes: Count | None = None


class StepRecords(RootModel[Annotated[list[StepRecord], Field(max_length=100_000)]]):
    """``steps.json``"""


class Progress(_Shown):
    """``progress.json``"""

    step: Name
    time: Seconds | None = None
    done: Count
    total: Count
    per_second: Seconds | None = None
    seconds_left: Seconds | None = None
    job_seconds_left: Seconds | None = None


class Warning(_Shown):
    """What does nothing in a job, of which step where it was seen in one."""

    step: str | None = None
    key: str | None = None
    text: str


class WarningRecords(RootModel[Annotated[list[Warning], Field(max_length=100_000)]]):
    """``warnings.json``"""


Model = TypeVar("Model", bound=BaseModel)


def found(path: Path, model: type[Model]) -> Model | None:
    """The record in ``path``; ``None`` where there is none, or none of this kind."""
    try:
        return read_record(path, model, _LARGEST)
    except UserError:
        return None


def damage(path: Path, model: type[BaseModel]) -> str | None:
    """Why the record in ``path`` cannot be used; ``None`` where it can, or there is none."""
    try:
        read_record(path, model, _LARGEST)
    except UnreadableError as error:
        return error.reason if path.exists() or path.is_symlink() else None
    except UserError as error:
        return str(error)
    return None


def found_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; empty where it is missing or anything else."""
    try:
        value = parsed(path, _LARGEST)
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}
