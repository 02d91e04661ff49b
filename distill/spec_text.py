"""Job specs as text: read, parsed, and all their faults put into one line."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from curation.errors import UserError
from curation.suggestions import LINE, in_lines, meant
from curation.toml_text import LARGEST, read_toml
from distill.losses.settings import known_settings
from distill.spec import JobSpec
from distill.spec_lines import line_of

SPEC_WORDS = "the job spec"
"""How messages call a spec that came without a file name."""
MOST_FAULTS, LONGEST_LINE = 10, 240
"""Told of one spec; and characters that several of them may take in one line."""
LARGEST_SPEC = LARGEST
"""Bytes."""
LONGEST_KEY, LONGEST_FAULT = 80, 1_000
"""Characters of a key, and of what is wrong with it, that are shown."""


def parse_spec(text: str, origin: str) -> JobSpec:
    """Check the form of a spec; ``UserError`` names ``origin``, every bad key, what is allowed."""
    try:
        return JobSpec.model_validate(read_toml(text, origin))
    except ValidationError as error:
        raise UserError(f"{origin}: {describe(error, JobSpec, text)}") from None


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
        raise UserError(f"{what} is larger than {LARGEST_SPEC >> 10} KiB: not a job spec")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} is not UTF-8 text ({error.reason} at byte {error.start})"
        ) from None


def describe(error: ValidationError, model: type[BaseModel], text: str = "") -> str:
    """The faults, each with its line in ``text``, its key, and what is allowed.

    They have a line each where they are long.
    """
    faults = []
    for fault in error.errors(include_url=False, include_context=False)[:MOST_FAULTS]:
        number = line_of(text, fault["loc"])
        faults.append(("" if number is None else f"line {number}: ") + _fault(fault, model))
    if error.error_count() > MOST_FAULTS:
        faults.append(f"and {error.error_count() - MOST_FAULTS:,} more")
    if len(line := "; ".join(faults)) <= LONGEST_LINE or len(faults) == 1:
        return line
    return "\n  ".join(["more than one thing is wrong:", *faults])


def _fault(fault: Mapping[str, Any], model: type[BaseModel]) -> str:
    key = _shortened(".".join(str(part) for part in fault["loc"]), LONGEST_KEY)
    if fault["type"] == "extra_forbidden":
        return f"unknown key {key!r}{_allowed(model, fault['loc'])}"
    if fault["type"] == "missing":
        return f"{key!r} is missing"
    if fault["type"] in ("model_type", "dict_type"):
        return f"{key}: must be a table, such as {{ ... }}" if key else "must be a table"
    message = _shortened(fault["msg"].removeprefix("Value error, "), LONGEST_FAULT)
    value = fault["input"]
    given = f", got {value!r:.80}" if isinstance(value, str | int | float) else ""
    return f"{key}: {message}{given}" if key else message


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _allowed(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """For an unknown key: the one that may be meant, and those that are allowed."""
    allowed = _fields_at(model, location[:-1])
    likely, names = meant(str(location[-1]), allowed), ", ".join(allowed)
    if len(names) <= LINE:
        return f" (allowed here: {names}){likely}"
    return likely or f"; allowed here:\n    {in_lines(allowed, '    ')}"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at ``location`` of ``model`` takes."""
    parts = iter(location)
    for part in parts:
        if part == "losses":
            model = known_settings(str(next(parts)))
        elif isinstance(part, str):
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
