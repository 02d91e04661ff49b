"""Reading and parsing job specs, with the file, line and column of each fault."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from curation.errors import UserError
from curation.faults import requirement
from curation.suggestions import LINE, in_lines, meant
from curation.toml_positions import Location, TomlSource, in_words, within_document
from curation.toml_text import read_toml
from curation.toml_writing import toml_text
from distill.data_spec import SET_PATTERN
from distill.export.config import LICENCE_PATTERN
from distill.losses.settings import known_settings
from distill.resources import WORD_PATTERN
from distill.spec import PROTOCOL_PATTERN, JobSpec
from distill.spec_errors import SpecError
from distill.spec_overrides import OverriddenSource, override, parse_override
from distill.spec_source import LARGEST_SPEC, UNNAMED_SPEC, read_spec

MOST_FAULTS = 10
"""Maximum number of faults that are reported"""
LONGEST_KEY, LONGEST_FAULT = 80, 1_000
"""Maximum characters that are shown of a key, and of its fault"""
_BEYOND = {
    "greater_than": ("gt", "below"),
    "greater_than_equal": ("ge", "below"),
    "less_than": ("lt", "above"),
    "less_than_equal": ("le", "above"),
}
"""Faults of numbers: pydantic's name of the limit, and the side on which the number is"""
FORMS = {
    SET_PATTERN: "DATASET/NAME, a store or view of the workspace such as 'ms1m/clean'",
    PROTOCOL_PATTERN: "PROTOCOL:/FOLDER, such as 'ijbc:/data/IJBC'",
    WORD_PATTERN: "a word of 1 to 200 letters, digits and _ . , : @ + -, first a letter or digit",
    LICENCE_PATTERN: "one line of 1 to 500 characters",
}
"""Descriptions of patterns"""


def parse_spec(text: str, origin: str) -> JobSpec:
    """Check the form of a spec; ``UserError`` gives the place of each fault in ``origin``::

    jobs/x.toml:14:34: stage 1: losses.arcface.margin: 28.6 is above 1.5708 (radians)
    """
    return SpecFile.parse(text, origin).job


@dataclass(frozen=True)
class SpecFile:
    """A job spec with its overrides, its text, and its name in messages."""

    job: JobSpec
    text: str
    """The text that is queued and run: as written, or regenerated if something is overridden."""
    origin: str
    source: OverriddenSource
    written: str
    """The text without the overrides."""
    overrides: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str] = ()) -> "SpecFile":
        """Raises the ``UserError`` of `read_spec` and `parse`."""
        return cls.parse(read_spec(path), str(path), overrides)

    @classmethod
    def parse(
        cls, text: str, origin: str = UNNAMED_SPEC, overrides: Sequence[str] = ()
    ) -> "SpecFile":
        """Check the form of a spec after replacing values by ``overrides`` (``train.seed=3``).

        ``UserError`` gives the place of each fault: line and column in ``origin``, or the override.
        """
        if not text.strip():
            raise UserError(f"{origin} is empty; `distill init` prints a spec to begin with")
        found = override(read_toml(text, origin), [parse_override(each) for each in overrides])
        source = OverriddenSource(TomlSource(text, origin), found)
        try:
            job = JobSpec.model_validate(found.document)
        except ValidationError as error:
            raise UserError(_describe(error, found.document, source)) from None
        effective = toml_text(found.document) if overrides else text
        if len(effective) > LARGEST_SPEC:
            raise UserError(
                f"{origin} is larger than {LARGEST_SPEC >> 10} KiB with the overrides of --set"
            )
        return cls(job, effective, origin, source, text, tuple(overrides))

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Prefix errors that checks in the block find in the spec with their place."""
        try:
            yield
        except SpecError as error:
            raise UserError(f"{self.source.at(error.location)}: {error}") from None
        except UserError as error:
            raise UserError(f"{self.origin}: {error}") from None


def _describe(error: ValidationError, document: Mapping[str, Any], source: OverriddenSource) -> str:
    """All faults, one per line if there are several."""
    faults: dict[str, None] = {}
    for fault in error.errors(include_url=False):
        if _of_another_type(fault, document):
            continue
        faults[_fault(fault, document, source)] = None
        if len(faults) > MOST_FAULTS:
            break
    first, *others = list(faults)[:MOST_FAULTS]
    if len(faults) > MOST_FAULTS:
        others.append(f"and more, {error.error_count():,} in total")
    return "\n  ".join([first, *others])


def _of_another_type(fault: Any, document: Mapping[str, Any]) -> bool:
    """Whether the fault is only about the alternative type of a value, a list or a number."""
    if fault["loc"][-1:] == within_document(fault["loc"], document)[-1:]:
        return False  # about an element of the list
    is_list = isinstance(fault["input"], list)
    return fault["type"] == ("float_type" if is_list else "tuple_type")


def _fault(fault: Any, document: Mapping[str, Any], source: OverriddenSource) -> str:
    """One fault with its place, its key, and the allowed values."""
    kind, cause = fault["type"], fault.get("ctx", {}).get("error")
    location = within_document(fault["loc"], document)
    if isinstance(cause, SpecError):
        location = (*location, *cause.location)
        reason = cause.reason
    elif kind == "extra_forbidden":
        name = _shortened(str(location[-1]), LONGEST_KEY)
        reason = f"unknown key {name!r}{_allowed(location)}"
    elif kind == "missing":
        last = fault["loc"][-1]
        reason = f"value {last + 1} is missing" if isinstance(last, int) else f"{last!r} is missing"
    elif kind in ("model_type", "dict_type"):
        reason = f"must be a table, {_example_of_table(location)}"
    elif kind == "list_type":
        reason = f"must be a list, such as {_example_of_list(location)}"
    else:
        reason = _reason(fault, location)
    place = source.at(location, of_key=kind in ("extra_forbidden", "unknown_loss"))
    about = location[:-1] if kind == "extra_forbidden" else location
    key = _shortened(in_words(about), LONGEST_KEY)
    return ": ".join(part for part in (place, key, _shortened(reason, LONGEST_FAULT)) if part)


def _reason(fault: Mapping[str, Any], location: Location) -> str:
    value = fault["input"]
    shown = f"{value!r:.80}"
    if fault["type"] in _BEYOND:
        if value != value:  # NaN is neither below nor above a limit
            return "must be a finite number, got nan"
        limit, side = _BEYOND[fault["type"]]
        bound = fault["ctx"][limit]
        end = f"{bound:.6g}{_unit(location)}" if isinstance(bound, float) else f"{bound}"
        if value == bound:
            return f"must be {'above' if side == 'below' else 'below'} {end}, got {shown}"
        return f"{shown} is {side} {end}"
    if fault["type"] == "value_error":  # our own message, which is complete
        return str(fault["ctx"]["error"])
    if fault["type"] == "string_pattern_mismatch":
        return f"{shown} is not {FORMS[fault['ctx']['pattern']]}"
    given = f", got {shown}" if isinstance(value, str | int | float) else ""
    return requirement(fault) + given


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _allowed(location: Location) -> str:
    """For an unknown key: the one probably meant, and those that are allowed."""
    allowed = list(_fields(_table_at(location[:-1])))
    likely, names = meant(str(location[-1]), allowed), ", ".join(allowed)
    if len(names) <= LINE:
        return f" (allowed here: {names}){likely}"
    return likely or f"; allowed here:\n    {in_lines(allowed, '    ')}"


def _example_of_table(location: Location) -> str:
    """An example of the content of the table at ``location``."""
    if location[-1] == "losses":
        return "such as { angular = { weight = 7.0 } }"
    return f"{{ KEY = VALUE }}, with the keys {', '.join(_fields(_table_at(location)))}"


def _example_of_list(location: Location) -> str:
    """``[[stage]]`` for a list of tables, ``[ ... ]`` for one of values."""
    *table, key = _of_field(location)
    field = _fields(_table_at(tuple(table))).get(str(key))
    of_tables = field is not None and any(_models_in(field.annotation))
    return f"[[{key}]]" if of_tables else "[ ... ]"


def _unit(location: Location) -> str:
    """The unit of a number at ``location``, from the description of its field."""
    *table, key = _of_field(location)
    field = _fields(_table_at(tuple(table))).get(str(key))
    return f" ({field.description})" if field is not None and field.description else ""


def _of_field(location: Location) -> Location:
    """The location without trailing indices of list elements."""
    while isinstance(location[-1], int):
        location = location[:-1]
    return location


def _table_at(location: Location) -> type[BaseModel]:
    """The model of the table at ``location``."""
    model: type[BaseModel] = JobSpec
    parts = iter(location)
    for part in parts:
        if part == "losses":
            model = known_settings(str(next(parts)))
        elif isinstance(part, str):
            model = _table_of(_fields(model)[part].annotation)
    return model


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields by their keys in a spec."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _table_of(annotation: Any) -> type[BaseModel]:
    """The model inside ``Model``, ``Model | None``, ``list[Model]`` or unions of these."""
    return next(_models_in(annotation))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)
