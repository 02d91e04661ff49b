"""JSON between processes: written so that it can be read, and read within limits.

Python's reader accepts NaN, integers of any size, lone surrogates and duplicate keys. Each of these
breaks something later (SQLite, a browser, UTF-8), where the file of origin is unknown.
"""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from curation.errors import UserError
from curation.faults import requirement
from curation.files import read_whole
from curation.toml_positions import within_document

AnyModel = TypeVar("AnyModel", bound=BaseModel)

DEEPEST = 64
"""Maximum nesting of lists and objects"""
LARGEST_RECORD = 1 << 20
"""Default maximum in bytes"""
MOST_VALUES = 50_000
"""Default maximum in a record; one of a thousand steps has a few thousand."""
_LARGEST_INTEGER = 2**63 - 1
_LONGEST_FAULT = 300
"""Maximum characters of an error, because some repeat the value"""
_SELF_EXPLAINED = ("extra_forbidden", "value_error", "assertion_error")
"""Types of errors where the value does not help, or is in the message already"""
_DIGITS = 20
"""More than any 64-bit integer with its sign"""


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON that ``parse_json`` accepts.

    Non-finite numbers become null. Lone surrogates, as in a file name that is not UTF-8, are
    written as their number.
    """
    return json.dumps(_sayable(value), indent=indent, allow_nan=False)


def _sayable(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_sayable(key): _sayable(inner) for key, inner in value.items()}
    return [_sayable(inner) for inner in value] if isinstance(value, list | tuple) else value


def parse_json(content: bytes) -> Any:
    """The value in ``content``; ``ValueError`` with a short reason if it is invalid.

    UTF-8; numbers are finite and integers have 64 bits, strings can be encoded, keys are unique,
    and at most ``DEEPEST`` lists and objects are nested.
    """
    try:
        value = json.loads(
            content.decode(),
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
        _check(value, DEEPEST)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error.msg} at character {error.pos}") from None
    return value


def read_json(path: Path, most: int = LARGEST_RECORD) -> Any:
    """The JSON value in a file of at most ``most`` bytes.

    Raises ``UnreadableError`` if the file cannot be read, ``UserError`` if ``parse_json`` fails.
    """
    content = read_whole(path, most)
    try:
        return parse_json(content)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None


def parse_record(content: bytes, model: type[AnyModel], values: int = MOST_VALUES) -> AnyModel:
    """JSON as a model; ``ValueError`` with the first place that does not match, and why.

    The model's configuration determines whether types are strict and extra keys are allowed. More
    than about ``values`` values are refused, because pydantic copies all of them for each error.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > values:
        raise ValueError(f"it has more than {values:,} values")
    document = parse_json(content)
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise ValueError(first_fault(error, document=document)) from None


def read_record(
    path: Path, model: type[AnyModel], most: int = LARGEST_RECORD, values: int = MOST_VALUES
) -> AnyModel:
    """The record in a file; raises the errors of ``read_json``, or ``UserError`` if it differs."""
    content = read_whole(path, most)
    try:
        return parse_record(content, model, values)
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None


def first_fault(error: ValidationError, with_place: bool = True, document: Any = None) -> str:
    """The first error: its place, as dotted keys, and the reason.

    With the ``document``, the place has no names of types, only what the document has, and the
    reason ends with the value there, if it is not a list or an object.
    """
    fault = error.errors(include_url=False)[0]
    parts = fault["loc"]
    if document is not None:
        missing = parts[-1:] if fault["type"] == "missing" else ()
        parts = (*within_document(parts, document), *missing)
    place = ".".join(str(part) for part in parts)[:80]
    message = requirement(fault)[:_LONGEST_FAULT]
    given = fault["input"]
    if document is not None and fault["type"] not in _SELF_EXPLAINED and _is_single(given):
        message += f" (it is {given!r:.40})"
    return f"{place}: {message}" if place and with_place else message


def _is_single(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _integer(digits: str) -> int:
    if len(digits) <= _DIGITS and abs(int(digits)) <= _LARGEST_INTEGER:
        return int(digits)
    raise ValueError(f"it has an integer of more than 64 bits: {digits[:_DIGITS]}")


def _number(digits: str) -> float:
    if math.isfinite(number := float(digits)):
        return number
    raise ValueError(f"it has a number that is too large: {digits[:_DIGITS]}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has {name}, which is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"an object has the key {twice!r:.80} twice")
    return built


def _check(value: Any, deepest: int) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, dict | list):
        if not deepest:
            raise RecursionError
        if isinstance(value, dict):
            for key in value:
                _check_text(key)
        for inner in value.values() if isinstance(value, dict) else value:
            _check(inner, deepest - 1)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a string has half of a surrogate pair: {text[error.start]!a}") from None
