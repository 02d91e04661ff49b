"""The run directory ``runs/JOB/``: the names of its files, what they hold, and how they are read.

A job writes through ``distill.pipeline.record``, its runner through ``distill.daemon.runfolder``.
Everybody reads here, as another process may have written it: a torn, foreign or hostile file
reads as absent. Keys that a later version adds are let through.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, RootModel

from curation.errors import UserError
from curation.files import UnreadableError, open_regular
from curation.json_text import parse_json, read_record
from curation.json_text import read_json as parsed

SPEC = "spec.toml"
LOG = "log.txt"
RUNNER, EXIT = "runner.json", "exit.json"
"""An attempt of the job: who runs it, and how it ended"""
PENDING = "pending.json"
"""Why an attempt that was given to a cluster has not begun"""
PROVENANCE = "provenance.json"
"""Where the job comes from, as of its submit"""
RESOLVED = "resolved.json"
"""The spec with every default, versions, digests"""
STEPS, PROGRESS, METRICS = "steps.json", "progress.json", "metrics.jsonl"
WARNINGS, EVALUATION = "warnings.json", "evaluation.json"
FAILURE, WAITING = "failure.json", "waiting.json"
"""Why the job failed, and which step of another job it needs"""
BUNDLE, CHECKPOINTS = "bundle", "checkpoints"
"""Links to what the steps left"""
HALVED = "halved.json"
"""Where a job ran out of memory: from then on each batch is taken in twice as many parts"""
RANKS = "ranks"
"""What each rank but the first prints"""

STEP_PATTERN = r"^[a-z]{1,20}-[0-9a-f]{16}$"
"""The folder of a step in ``steps/``"""
LARGEST_RECORD = 16 << 20
"""Bytes: an evaluation of a hundred candidates on many sets has less than one."""
_LONGEST_REASON = 500
_TAIL_BYTES = 1 << 16

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Seconds = Annotated[FiniteFloat, Field(ge=0, lt=1e12)]
Name = Annotated[str, Field(min_length=1, max_length=1000)]


class Record(BaseModel):
    """What one process writes and another reads."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class _Shown(BaseModel):
    """A record that is shown as it is, with keys of later versions."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")


class Failure(Record):
    """The job's own words on why it failed (``failure.json``)."""

    reason: Annotated[str, Field(pattern=r"\S")]
    hint: str | None = None
    out_of_memory: bool = False


class Halved(Record):
    """That an attempt ran out of memory (``halved.json``), in its own words."""

    reason: str


class Waiting(Record):
    """The step of another job that a job needs (``waiting.json``)."""

    step: Annotated[str, Field(pattern=STEP_PATTERN)]
    """Its folder in ``steps/``"""
    name: Name
    """As the waiting job calls it"""
    job: str | None
    """Who does it, where that is known"""


@dataclass
class StepState:
    """One step of the job, as steps.json lists it.

    ``state``: waiting, running, done, reused or skipped. ``scores`` are those of the candidates
    that a choice compared; ``note`` says in a line how it went, or why the step was skipped.
    ``images`` says how many a training goes through in all its epochs. ``peak_memory_bytes`` and
    ``peak_gpu_memory_bytes`` are those of ``distill.pipeline.peak_memory``, also of an attempt
    that failed.
    """

    name: str
    kind: str
    state: str = "waiting"
    id: str | None = None
    path: str | None = None
    seconds: float | None = None
    scores: dict[str, float] | None = None
    note: str | None = None
    images: int | None = None
    peak_memory_bytes: int | None = None
    peak_gpu_memory_bytes: int | None = None


class StepRecord(_Shown):
    """One step of ``steps.json``; ``StepState`` says what it means."""

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


class ProgressRecord(_Shown):
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


class EvaluationRecord(RootModel[dict[str, Any]]):
    """``evaluation.json``"""


_RESULTS: dict[str, type[BaseModel]] = {
    STEPS: StepRecords,
    WARNINGS: WarningRecords,
    EVALUATION: EvaluationRecord,
}
"""The records of a run that people look at"""


AnyModel = TypeVar("AnyModel", bound=BaseModel)


def found(path: Path, model: type[AnyModel]) -> AnyModel | None:
    """The record in ``path``; ``None`` where there is none, or none of this kind."""
    try:
        return read_record(path, model, LARGEST_RECORD)
    except UserError:
        return None


def damage(path: Path, model: type[BaseModel]) -> str | None:
    """Why the record in ``path`` cannot be used; ``None`` where it can, or there is none."""
    try:
        read_record(path, model, LARGEST_RECORD)
    except UnreadableError as error:
        return error.reason if path.exists() or path.is_symlink() else None
    except UserError as error:
        return str(error)
    return None


def found_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; empty where it is missing or anything else."""
    try:
        value = parsed(path, LARGEST_RECORD)
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}


def read_failure(run: Path) -> Failure | None:
    """The job's own words, cut to one line each; where they cannot be read, why."""
    if (why := damage(run / FAILURE, Failure)) is not None:
        return Failure(reason=one_line(f"it failed, and {FAILURE} cannot be read: {why}"))
    told = found(run / FAILURE, Failure)
    if told is None:
        return None
    hint = None if told.hint is None else one_line(told.hint)
    return Failure(reason=one_line(told.reason), hint=hint, out_of_memory=told.out_of_memory)


def one_line(text: str) -> str:
    """At most so much of what somebody wrote as a table and a log can take."""
    return " ".join(text.split())[:_LONGEST_REASON]


def read_halved(run: Path) -> Halved | None:
    """Why each batch is taken in twice as many parts; ``None`` where it is not."""
    return found(run / HALVED, Halved)


def read_waiting(run: Path) -> Waiting | None:
    """The step of another job that the job needs."""
    return found(run / WAITING, Waiting)


def read_steps(run: Path) -> list[dict[str, Any]]:
    """``steps.json``; empty where it is missing or anything else."""
    steps = found(run / STEPS, StepRecords)
    return [] if steps is None else [step.model_dump(exclude_unset=True) for step in steps.root]


def read_warnings(run: Path) -> list[dict[str, Any]]:
    """``warnings.json``, and a warning for each record of results that cannot be read."""
    told = found(run / WARNINGS, WarningRecords)
    warnings = [] if told is None else [each.model_dump(exclude_unset=True) for each in told.root]
    for name, model in _RESULTS.items():
        if (why := damage(run / name, model)) is not None:
            text = one_line(f"{name} cannot be read and is not shown: {why}")
            warnings.append({"text": text})
    return warnings


def read_progress(run: Path) -> dict[str, Any] | None:
    """``progress.json``; ``None`` where it is missing or anything else."""
    progress = found(run / PROGRESS, ProgressRecord)
    return None if progress is None else progress.model_dump(exclude_unset=True)


def read_evaluation(run: Path) -> dict[str, Any]:
    """``evaluation.json``; empty where it is missing or anything else."""
    return found_object(run / EVALUATION)


def read_last_metrics(run: Path) -> dict[str, Any]:
    """The newest whole line of ``metrics.jsonl``; empty where there is none."""
    try:
        end = read_log(run / METRICS, -_TAIL_BYTES)[0]
    except UserError:
        return {}
    for line in reversed(end.splitlines(keepends=True)):
        if line.endswith(b"\n"):
            return _parsed_line(line)
    return {}


def _parsed_line(line: bytes) -> dict[str, Any]:
    try:
        value = parse_json(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def read_log(path: Path, offset: int, limit: int = 1 << 16) -> tuple[bytes, int]:
    """Up to ``limit`` bytes from ``offset`` (from the end where negative), and where they end.

    Nothing where there is no file; ``UnreadableError`` where it is none, a named pipe say.
    """
    if not os.path.lexists(path):
        return b"", 0
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size + offset, 0) if offset < 0 else min(offset, size))
        return file.read(limit), file.tell()
