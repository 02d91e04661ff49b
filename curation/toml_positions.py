"""The positions of keys and values in a TOML document, for error messages.

The standard library's reader has no positions, nor has tomlkit. The text is tokenised again here
when a message needs a position.
"""

import re
import tomllib
from functools import cached_property
from typing import Any, NamedTuple

Location = tuple[int | str, ...]
"""``("stage", 0, "epochs")``: keys, and indices of array elements"""
DEEPEST = 32
"""Maximum parts of a location; deeper values have the position of their container."""
LONGEST_NAME = 80
"""Maximum characters of a key that are shown"""

# An unclosed string ends where it must, so that each character is scanned once.
_TOKEN = re.compile(
    r'(?P<string>"""(?:[^"\\]|\\.|"{1,2}(?!"))*+"{0,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*+'{0,5}"
    r'|"(?:[^"\\\n]|\\[^\n])*+"?' + r"|'[^'\n]*+'?)"
    r"|(?P<bare>[^\s\"'#,=\[\]{}.]++)"
    r"|[ \t\r]++|\#[^\n]*+"
    r"|(?P<mark>.)",
    re.DOTALL,
)


def in_words(location: Location) -> str:
    """``stage 1: losses.arcface.margin``; elements of arrays are counted from 1."""
    words, joint = "", ""
    for part in location:
        if isinstance(part, int):
            words, joint = f"{words} {part + 1}", ": "
        else:
            words, joint = f"{words}{joint}{part}", "."
    return words


def within_document(parts: Location, document: Any) -> Location:
    """The part of a pydantic error's location that exists in the document, without type names."""
    location: Location = ()
    for part in parts:
        try:
            document = document[part]
        except (LookupError, TypeError):
            continue
        location = (*location, part)
    return location


class Place(NamedTuple):
    """Offsets of a key and of its value in the text; for a header, both are that of the name."""

    key: int
    value: int


class RepeatedKey(NamedTuple):
    """A key that occurs too often, and the offsets of both occurrences."""

    location: Location
    first: int
    again: int


class _Token(NamedTuple):
    kind: str | None
    text: str
    offset: int


class _NotTomlError(Exception):
    """Ends the walk; the standard library's reader gives the reason."""


class Positions:
    """The positions in one document; for invalid TOML, up to the fault."""

    def __init__(self, text: str) -> None:
        self.places: dict[Location, Place] = {}
        self.repeated: RepeatedKey | None = None
        self._given: set[Location] = set()
        self._newest: dict[Location, int] = {}
        """The number of the latest table in each array of tables."""
        self._tokens = [
            _Token(found.lastgroup, found[0], found.start())
            for found in _TOKEN.finditer(text)
            if found.lastgroup is not None
        ]
        self._tokens.append(_Token(None, "", len(text)))
        self._next = 0
        try:
            self._document()
        except (_NotTomlError, RecursionError):
            return

    def nearest(self, location: Location) -> Place | None:
        """The position of ``location``, or of its nearest container."""
        for end in range(len(location), 0, -1):
            if location[:end] in self.places:
                return self.places[location[:end]]
        return None

    def _document(self) -> None:
        table: Location = ()
        while self._token.kind is not None:
            if self._took("\n"):
                continue
            if self._took("["):
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Location:
        """``[table]`` or ``[[element]]``; returns the location of the pairs that follow."""
        is_element = self._took("[")
        *outer, (name, offset) = self._keys()
        location = self._inside((), outer)
        if is_element:
            location = (*location, name)
            self._enter(location, Place(offset, offset))
            self._newest[location] = number = self._newest.get(location, -1) + 1
            location = (*location, number)
        else:
            location = self._inside(location, [(name, offset)])
        self._give(location, Place(offset, offset), location in self._given)
        self._take("]")
        if is_element:
            self._take("]")
        return location

    def _pair(self, table: Location) -> None:
        *outer, (name, offset) = self._keys()
        location = (*self._inside(table, outer), name)
        self._take("=")
        self._give(location, Place(offset, self._token.offset), location in self.places)
        self._value(location)

    def _value(self, location: Location) -> None:
        if self._took("["):
            self._array(location)
        elif self._took("{"):
            while not self._took("}"):
                self._pair(location)
                self._took(",")
        else:
            if self._token.kind not in ("string", "bare"):
                raise _NotTomlError
            # A number may contain dots, and a date a space.
            while self._token.kind in ("string", "bare") or self._token.text == ".":
                self._next += 1

    def _array(self, location: Location) -> None:
        number = 0
        while True:
            while self._took("\n"):
                pass
            if self._took("]"):
                return
            if not self._took(","):
                element = (*location, number)
                number += 1
                self._give(element, Place(self._token.offset, self._token.offset), False)
                self._value(element)

    def _keys(self) -> list[tuple[str, int]]:
        """The parts of a dotted key with their offsets."""
        keys = [self._key()]
        while self._took("."):
            keys.append(self._key())
        return keys

    def _key(self) -> tuple[str, int]:
        kind, text, offset = self._token
        self._next += 1
        if kind == "bare":
            return text, offset
        if kind != "string":
            raise _NotTomlError
        try:
            return tomllib.loads(f"key = {text}")["key"] if "\\" in text else text[1:-1], offset
        except tomllib.TOMLDecodeError:
            raise _NotTomlError from None

    def _inside(self, location: Location, keys: list[tuple[str, int]]) -> Location:
        """The table that dotted ``keys`` lead to; in an array of tables, its newest element."""
        for name, offset in keys:
            location = (*location, name)
            self._enter(location, Place(offset, offset))
            if location in self._newest:
                location = (*location, self._newest[location])
        return location

    def _give(self, location: Location, place: Place, is_repeated: bool) -> None:
        if is_repeated and self.repeated is None:
            self.repeated = RepeatedKey(location, self.places[location].key, place.key)
        self._given.add(location)
        self._enter(location, place)

    def _enter(self, location: Location, place: Place) -> None:
        if len(location) <= DEEPEST:
            self.places.setdefault(location, place)

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _took(self, mark: str) -> bool:
        if self._token.kind != "mark" or self._token.text != mark:
            return False
        self._next += 1
        return True

    def _take(self, mark: str) -> None:
        if not self._took(mark):
            raise _NotTomlError


class TomlSource:
    """The text of a document, and its name in messages."""

    def __init__(self, text: str, origin: str) -> None:
        self._text = text
        self._origin = origin

    def has(self, location: Location) -> bool:
        """Whether the document itself contains ``location``."""
        return not location or location in self._positions.places

    def at(self, location: Location, of_key: bool = False) -> str:
        """``jobs/x.toml:14:9``: the line and column, both from 1, of a value or of its key.

        For a table, of its name; for a missing location, of its nearest container.
        """
        place = self._positions.nearest(location)
        if place is None:
            return self.at_offset(0)
        if location not in self._positions.places or self._text.startswith("{", place.value):
            of_key = True
        return self.at_offset(place.key if of_key else place.value)

    def at_offset(self, offset: int) -> str:
        line = self._text.count("\n", 0, offset) + 1
        column = offset - self._text.rfind("\n", 0, offset)
        return f"{self._origin}:{line}:{column}"

    def repeated(self) -> str | None:
        """Which key is given twice, and where; ``None`` if there is none."""
        found = self._positions.repeated
        if found is None:
            return None
        name = str(found.location[-1])[:LONGEST_NAME]
        first = self._text.count("\n", 0, found.first) + 1
        return f"{self.at_offset(found.again)}: {name!r} is given twice, first in line {first}"

    @cached_property
    def _positions(self) -> Positions:
        return Positions(self._text)
