"""Job specs as text: read, parsed, and all their faults put into one line."""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from curation.errors import UserError
from distill.spec import JobSpec

SPEC_WORDS = "the job spec"
"""How messages call a spec that came without a file name."""
LARGEST_SPEC = 1 << 20
"""Bytes. A job spec is a page of text."""


def parse_spec(text: str, origin: str) -> JobSpec:
    """Check the form of a spec; ``UserError`` names ``origin``, every bad key, what is allowed."""
    try:
        return JobSpec.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{origin} is not TOML: {error}") from None
    except RecursionError:
        raise UserError(f"{origin} is nested too deeply") from None
    except ValidationError as error:
        raise UserError(f"{origin}: {describe(error, JobSpec)}") from None


def read_spec(path: Path) -> str:
    """The text of a job spec; ``UserError`` where the file cannot be one."""
    if not path.is_file():
        kind = "is not a file" if path.exists() else "does not exist"
        raise UserError(f"the job spec {path} {kind}; give a TOML file such as jobs/sample.toml")
    with path.open("rb") as file:
        return decode_spec(file.read(LARGEST_SPEC + 1), str(path))


def decode_spec(data: bytes, what: str = SPEC_WORDS) -> str:
    """Bytes from outside as the text of a spec; ``UserError`` where they are no such text."""
    if len(data) > LARGEST_SPEC:
        raise UserError(f"{what} is larger than {LARGEST_SPEC >> 20} MiB: not a job spec")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} is not UTF-8 text ({error.reason} at byte {error.start})"
        ) from None


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """All faults in one line, each with its key and, for an unknown key, the allowed ones."""
    faults = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            allowed = ", ".join(_fields_at(model, fault["loc"][:-1]))
            faults.append(f"unknown key {key!r} (allowed here: {allowed})")
        elif fault["type"] == "missing":
            faults.append(f"{key!r} is missing")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            given = (
                f", got {fault['input']!r:.80}"
                if isinstance(fault["input"], str | int | float)
                else ""
            )
            faults.append(f"{key}: {message}{given}" if key else message)
    return "; ".join(faults)


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at ``location`` of ``model`` takes."""
    for part in location:
        if isinstance(part, str):
            by_key = {field.alias or name: field for name, field in model.model_fields.items()}
            model = _table_of(by_key[part].annotation)
    return [field.alias or name for name, field in model.model_fields.items()]


def _table_of(annotation: Any) -> type[BaseModel]:
    """The model inside ``Model``, ``Model | None`` or ``list[Model]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(
        inner
        for inner in annotation.__args__
        if isinstance(inner, type) and issubclass(inner, BaseModel)
    )
