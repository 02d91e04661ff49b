"""The run directory ``runs/JOB/``: the names and contents of its files, and how to read them.

A job writes through ``distill.pipeline.record``, its runner through ``distill.daemon.runfolder``.
All readers use this module, because another process may have written the files: a torn, foreign or
hostile file reads as absent. Unknown keys of later versions are accepted.
"""

import os
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, RootModel

from curation.errors import UserError
from curation.files import UnreadableError, open_regular
from curation.json_text import parse_json, read_record
from curation.json_text import read_json as parsed
from curation.printable import shortened

SPEC = "spec.toml"
LOG = "log.txt"
RUNNER, EXIT = "runner.json", "exit.json"
"""The runner of an attempt, and how the attempt ended"""
PENDING = "pending.json"
"""Why a cluster has not started an attempt"""
STALL = "stall.json"
"""How long an attempt has been silent, if that is too long"""
PROVENANCE = "provenance.json"
"""Where the job comes from, recorded at its submit"""
RESOLVED = "resolved.json"
"""The spec with every default, versions, digests"""
STEPS, PROGRESS, METRICS = "steps.json", "progress.json", "metrics.jsonl"
WARNINGS, EVALUATION = "warnings.json", "evaluation.json"
FAILURE, WAITING = "failure.json", "waiting.json"
"""Why the job failed; the step of another job that it needs"""
BUNDLE, CHECKPOINTS = "bundle", "checkpoints"
"""Links to results of steps"""
HALVED = "halved.json"
"""Written when a job ran out of memory: from then on its micro-batches are halved"""
RANKS = "ranks"
"""Output of each rank except the first"""

STEP_PATTERN = r"^[a-z]{1,20}-[0-9a-f]{16}$"
"""The folder of a step in ``steps/``"""
LARGEST_RECORD = 16 << 20
"""Maximum bytes; an evaluation of a hundred candidates on many sets has less than one MB."""
_LONGEST_REASON = 500
_TAIL_BYTES = 1 << 16

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Seconds = Annotated[FiniteFloat, Field(ge=0, lt=1e12)]
Name = Annotated[str, Field(min_length=1, max_length=1000)]
Note = Annotated[str, AfterValidator(lambda text: shortened(text, 2000))]


class Record(BaseModel):
    """A record that one process writes and another reads."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class _Shown(BaseModel):
    """A record that is displayed unchanged, including keys of later versions."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")


class Failure(Record):
    """The job's own description of its failure (``failure.json``)."""

    reason: Annotated[str, Field(pattern=r"\S")]
    hint: str | None = None
    out_of_memory: bool = False


class Halved(Record):
    """The job's own description of how it ran out of memory (``halved.json``)."""

    reason: str


class Waiting(Record):
    """The step of another job that a job needs (``waiting.json``)."""

    step: Annotated[str, Field(pattern=STEP_PATTERN)]
    """Its folder in ``steps/``"""
    name: Name
    """Its name in the waiting job"""
    job: str | None
    """The job that is doing it, if known"""


@dataclass
class StepState:
    """One step of the job, as in steps.json.

    ``state``: waiting, running, done, reused or skipped. ``scores`` are those of the candidates
    that a choice compared; ``note`` is one line on how it went, or why the step was skipped.
    ``images`` is the number that a training processes over all epochs. ``peak_memory_bytes`` and
    ``peak_gpu_memory_bytes`` come from ``distill.pipeline.peak_memory``, including those of a
    failed attempt.
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
    """One step of ``steps.json``; ``StepState`` documents the fields."""

    name: Name
    kind: str = ""
    state: str
    id: str | None = None
    path: str | None = None
    seconds: Seconds | None = None
    scores: dict[str, FiniteFloat] | None = None
    note: Note | None = None
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


class WarningRecord(_Shown):
    """Something without effect in a job, with the step in which it was noticed, if any."""

    step: str | None = None
    key: Note | None = None
    text: Note


class WarningRecords(RootModel[Annotated[list[WarningRecord], Field(max_length=100_000)]]):
    """``warnings.json``"""


class EvaluationRecord(RootModel[dict[str, Any]]):
    """``evaluation.json``"""


_RESULTS: dict[str, type[BaseModel]] = {
    STEPS: StepRecords,
    WARNINGS: WarningRecords,
    EVALUATION: EvaluationRecord,
}
"""The records of a run that are displayed"""


AnyModel = TypeVar("AnyModel", bound=BaseModel)


def found(path: Path, model: type[AnyModel]) -> AnyModel | None:
    """The record in ``path``; ``None`` if it is missing or not of this kind."""
    try:
        return read_record(path, model, LARGEST_RECORD)
    except UserError:
        return None


def damage(path: Path, model: type[BaseModel]) -> str | None:
    """Why the record in ``path`` is unusable; ``None`` if it is usable or missing."""
    try:
        read_record(path, model, LARGEST_RECORD)
    except UnreadableError as error:
        return error.reason if path.exists() or path.is_symlink() else None
    except UserError as error:
        return str(error)
    return None


def found_object(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; empty if it is missing or something else."""
    try:
        value = parsed(path, LARGEST_RECORD)
    except UserError:
        return {}
    return value if isinstance(value, dict) else {}


def read_failure(run: Path) -> Failure | None:
    """The job's own words, shortened to one line each; or why they cannot be read."""
    if (why := damage(run / FAILURE, Failure)) is not None:
        return Failure(reason=one_line(f"it failed, and {FAILURE} cannot be read: {why}"))
    failure = found(run / FAILURE, Failure)
    if failure is None:
        return None
    hint = None if failure.hint is None else one_line(failure.hint)
    return Failure(reason=one_line(failure.reason), hint=hint, out_of_memory=failure.out_of_memory)


def one_line(text: str) -> str:
    """Untrusted text, shortened to what fits into a table or a log."""
    return " ".join(text.split())[:_LONGEST_REASON]


def read_halved(run: Path) -> Halved | None:
    """Why micro-batches are halved; ``None`` if they are not."""
    return found(run / HALVED, Halved)


def read_waiting(run: Path) -> Waiting | None:
    """The step of another job that the job needs."""
    return found(run / WAITING, Waiting)


def read_steps(run: Path) -> list[dict[str, Any]]:
    """``steps.json``; empty if it is missing or something else."""
    steps = found(run / STEPS, StepRecords)
    return [] if steps is None else [step.model_dump(exclude_unset=True) for step in steps.root]


def steps_now(run: Path, is_running: bool) -> list[dict[str, Any]]:
    """`read_steps`, in which no step runs when the job does not: the one that ran is stopped."""
    steps = read_steps(run)
    stopped = [] if is_running else [step for step in steps if step.get("state") == "running"]
    for step in stopped:
        step["state"] = "stopped"
    return steps


def read_warnings(run: Path) -> list[dict[str, Any]]:
    """``warnings.json``, plus a warning for each unreadable record of results."""
    records = found(run / WARNINGS, WarningRecords)
    warnings = (
        [] if records is None else [each.model_dump(exclude_unset=True) for each in records.root]
    )
    for name, model in _RESULTS.items():
        if (why := damage(run / name, model)) is not None:
            text = one_line(f"{name} cannot be read and is not shown: {why}")
            warnings.append({"text": text})
    return warnings


def read_progress(run: Path) -> dict[str, Any] | None:
    """``progress.json``; ``None`` if it is missing or something else."""
    progress = found(run / PROGRESS, ProgressRecord)
    return None if progress is None else progress.model_dump(exclude_unset=True)


def read_evaluation(run: Path) -> dict[str, Any]:
    """``evaluation.json``; empty if it is missing or something else."""
    return found_object(run / EVALUATION)


def read_last_metrics(run: Path) -> dict[str, Any]:
    """The newest complete line of ``metrics.jsonl``; empty if there is none."""
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
    """Up to ``limit`` bytes from ``offset`` (from the end if negative), and the offset after them.

    Empty if there is no file; ``UnreadableError`` as `open_log`.
    """
    if not os.path.lexists(path):
        return b"", 0
    with open_log(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size + offset, 0) if offset < 0 else min(offset, size))
        return file.read(limit), file.tell()


def open_log(path: Path) -> BufferedReader:
    """A file that a job appends to; ``UnreadableError`` if it is missing, or not a regular file.

    A link could lead to any file, and logs are shown to everybody who may see the pages.
    """
    if path.is_symlink():
        raise UnreadableError(path, "it is a link, not a file")
    return open_regular(path)
