"""The differences between two job specs, by key, as written, without defaults. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import UserError
from curation.printable import shortened
from curation.toml_text import read_toml

_LONGEST = 2000
_MOST_LISTED, _LONGEST_SHOWN = 5, 80
"""Keys, and characters of a value, in a sentence"""
_BARE = re.compile(r"[A-Za-z0-9_-]+")


class _Absent:
    """The value of a missing key; TOML has no null."""


ABSENT = _Absent()


@dataclass(frozen=True)
class Difference:
    """One key whose values differ; ``ABSENT`` if a spec does not have it."""

    key: str
    """As in ``--set``, with array elements counted from 0: ``stage[1].losses.arcface.margin``"""
    first: Any
    second: Any


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """The keys whose values differ in two parsed documents, in the order written."""
    return [Difference(key, *values) for key, values in varying([first, second]).items()]


def varying(documents: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The keys whose values are not equal in all documents, with all values in order."""
    leaves = [dict(leaves_of(document)) for document in documents]
    keys = dict.fromkeys(key for each in leaves for key in each)
    rows = {key: [each.get(key, ABSENT) for each in leaves] for key in keys}
    return {
        key: values
        for key, values in rows.items()
        if not all(_are_same(values[0], other) for other in values)
    }


def leaves_of(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """All values that are not tables; a table only if it is empty."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            part = name if _BARE.fullmatch(name) else json.dumps(name)
            yield from leaves_of(inner, f"{key}.{part}" if key else part)
    elif isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        for number, entry in enumerate(value):
            yield from leaves_of(entry, f"{key}[{number}]")
    elif key:
        yield key, value


def _are_same(first: Any, second: Any) -> bool:
    """1 equals 1.0 but not true, and NaN equals itself."""
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    return first == second or repr(first) == repr(second)


def shown_value(value: Any, longest: int = _LONGEST) -> str:
    """A value almost as in a spec: "1" is not 1."""
    if value is ABSENT:
        return "-"
    return shortened(json.dumps(value, ensure_ascii=False, default=str), longest)


def is_same_spec(first: str, second: str) -> bool:
    """Whether two texts have the same keys and values in the same order, so that only comments and
    layout differ."""
    if first == second:
        return True
    try:
        one, other = (list(leaves_of(read_toml(text, "the spec"))) for text in (first, second))
    except UserError:
        return False
    return len(one) == len(other) and all(
        before[0] == after[0] and _are_same(before[1], after[1])
        for before, after in zip(one, other, strict=True)
    )


def another_spec(job: str, before: str, now: str, state: str = "exists") -> str:
    """That ``job`` has the spec ``before`` and not ``now``: every key with both values."""
    return f"job {job!r} {state} with another spec: {_changes(before, now)}"


def _changes(before: str, now: str) -> str:
    try:
        found = differences(read_toml(before, "its spec"), read_toml(now, "the new spec"))
    except UserError as error:
        return str(error)
    if not found:
        return "only the order of keys differs"
    lines = [
        f"{each.key} was {_shown(each.first)} and is {_shown(each.second)}"
        for each in found[:_MOST_LISTED]
    ]
    more = len(found) - len(lines)
    return ", ".join(lines) + (f", and {more} more" if more else "")


def _shown(value: Any) -> str:
    return "not set" if value is ABSENT else shown_value(value, _LONGEST_SHOWN)
