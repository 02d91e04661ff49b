"""Overrides of values in a job spec: ``--set train.seed=3``."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import UserError
from curation.printable import printable
from curation.toml_positions import Location, TomlSource
from curation.toml_text import MOST_PARTS, read_toml
from curation.toml_writing import toml_key, toml_value

MOST_OVERRIDES = 100
LONGEST_OVERRIDE = 4096
"""Characters of an override"""
_LONGEST_SHOWN = 80
_EXAMPLE = "write KEY=VALUE, such as train.seed=3 or stage[0].epochs=2"
_PART = re.compile(
    r"\.?(?:\[(?P<number>[0-9]{1,9})\]"
    r'|(?P<bare>[A-Za-z0-9_-]+)|(?P<quoted>"(?:[^"\\]|\\.)*"|\'[^\']*\'))'
)
_WORD = re.compile(r"[\w./@:+~-]+")
"""A string without quotes, because a shell removes them"""
_INTEGER = re.compile(r"[+-]?[1-9]\d*")
"""An integer that TOML refuses has too many digits, and is no string either."""
_PLACE = re.compile(r"^value:1:\d+: ")


@dataclass(frozen=True)
class Override:
    """One ``KEY=VALUE``; ``text`` is what the user wrote."""

    text: str
    parts: tuple[int | str, ...]
    """Parts of the key; a number in brackets is an element of an array, counted from 0."""
    value: Any

    @property
    def shown(self) -> str:
        """The override as named in messages."""
        return _shown(self.text)


@dataclass(frozen=True)
class Overridden:
    """A document with some values replaced, and their locations."""

    document: dict[str, Any]
    places: tuple[tuple[Location, str], ...]
    """The locations that were set, newest last, with the texts that set them"""


def parse_override(text: str) -> Override:
    """``UserError`` if ``text`` is not ``KEY=VALUE``; the value is TOML, or a bare word."""
    if len(text) > LONGEST_OVERRIDE:
        raise UserError(f"{_shown(text)}: longer than {LONGEST_OVERRIDE:,} characters")
    if text.encode(errors="replace").decode() != text:
        raise UserError(f"{_shown(text)}: it is not UTF-8 text")
    parts, end = _key(text)
    return Override(text, parts, _value(text[end + 1 :].strip(), text))


def override(document: dict[str, Any], overrides: Sequence[Override]) -> Overridden:
    """The document with these values set in order; ``UserError`` if one does not fit in."""
    if len(overrides) > MOST_OVERRIDES:
        raise UserError(f"--set is given {len(overrides):,} times; at most {MOST_OVERRIDES}")
    places: list[tuple[Location, str]] = []
    for each in overrides:
        document, location = _replaced(document, each)
        places.append((location, each.shown))
    return Overridden(document, tuple(places))


class OverriddenSource:
    """The source of the values of an overridden document: the file, or a ``--set``."""

    def __init__(self, file: TomlSource, overridden: Overridden) -> None:
        self._file = file
        self._places = overridden.places

    def at(self, location: Location, of_key: bool = False) -> str:
        """The ``--set`` that set the value at ``location``, else as `TomlSource.at`."""
        for place, shown in reversed(self._places):
            if location[: len(place)] == place:
                return shown
        if not self._file.has(location):  # a table that exists only because of an override in it
            for place, shown in reversed(self._places):
                if place[: len(location)] == location:
                    return shown
        return self._file.at(location, of_key)


def _key(text: str) -> tuple[tuple[int | str, ...], int]:
    """The parts of the key, and the position of its ``=``."""
    parts: list[int | str] = []
    place = 0
    while found := _PART.match(text, place):
        if found[0].startswith(".") is not (bool(parts) and found["number"] is None):
            break
        if found["number"] is not None:
            parts.append(int(found["number"]))
        else:
            parts.append(found["bare"] or _unquoted(found["quoted"], text))
        place = found.end()
    rest = text[place:].lstrip()
    if not parts or not rest.startswith("="):
        raise UserError(
            f"{_shown(text)}: {'no value' if '=' not in text else 'no key'}; {_EXAMPLE}"
        )
    if len(parts) > MOST_PARTS:
        raise UserError(f"{_shown(text)}: the key has more than {MOST_PARTS} parts")
    return tuple(parts), len(text) - len(rest)


def _unquoted(part: str, whole: str) -> str:
    try:
        return str(tomllib.loads(f"key = {part}")["key"])
    except tomllib.TOMLDecodeError:
        raise UserError(f"{_shown(whole)}: {part[:40]!r} is not a TOML key; {_EXAMPLE}") from None


def _value(text: str, whole: str) -> Any:
    if not text:
        raise UserError(f'{_shown(whole)}: no value; an empty string is ""')
    try:
        document = read_toml(f"value = {text}\n", "value")
    except UserError as error:
        if _WORD.fullmatch(text) and not _INTEGER.fullmatch(text):
            return text
        reason = _PLACE.sub("", str(error).rpartition("not TOML: ")[2])
        raise UserError(
            f"{_shown(whole)}: the value is not TOML ({reason}); a string of several words needs "
            f"quotes inside those of the shell, such as 'name=\"a b\"', also in a list"
        ) from None
    if set(document) != {"value"}:
        raise UserError(f"{_shown(whole)}: it sets more than one key; repeat --set for each")
    return document["value"]


def _replaced(document: dict[str, Any], one: Override) -> tuple[dict[str, Any], Location]:
    """A copy of the document with the value of ``one``, and the location of the value."""
    changed = dict(document)
    around: Any = changed
    location: Location = ()
    *outer, last = one.parts
    for part in outer:
        step = _step(around, part, location, one)
        inner = around[step] if isinstance(around, list) else around.get(step, {})
        location = (*location, step)
        if not isinstance(inner, dict | list):
            raise UserError(f"{one.shown}: {_name(location)} is {toml_value(inner):.40}, no table")
        around[step] = inner.copy()
        around = around[step]
    step = _step(around, last, location, one)
    around[step] = one.value
    return changed, (*location, step)


def _step(around: Any, part: int | str, location: Location, one: Override) -> Any:
    """``part`` as a key of the table, or an index of the array, ``around``; else ``UserError``."""
    name = _name(location)
    if isinstance(around, dict):
        if isinstance(part, str):
            return part
        what = "a table, not an array" if around else "not an array of the spec"
        raise UserError(f"{one.shown}: {name or 'a spec'} is {what}")
    if isinstance(part, str) and not part.isdecimal():
        example = f"{name}[0].{part}"
        raise UserError(f"{one.shown}: {name} is an array: give an index, such as {example}")
    if (number := int(part)) >= len(around):
        count = f"{len(around)}, counted from 0" if around else "none"
        raise UserError(f"{one.shown}: there is no {name}[{number}]; the spec has {count}")
    return number


def _name(location: Location) -> str:
    """``stage[0].losses``, as a key of ``--set``."""
    name = ""
    for part in location:
        joint = "." if name else ""
        name += f"[{part}]" if isinstance(part, int) else f"{joint}{toml_key(part)}"
    return name


def _shown(text: str) -> str:
    shown = printable(text)
    return f"--set {shown if len(shown) <= _LONGEST_SHOWN else f'{shown[: _LONGEST_SHOWN - 3]}...'}"
