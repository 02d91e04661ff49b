"""The positions of keys and values in TOML, against the standard library's reader."""

import json
import time
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.toml_positions import Location, Positions

NAMES = st.sampled_from(["a", "b", "c-d", "7", "1e3", "a.b", "two words", 'q"uote', "", "é"])
SCALARS = st.one_of(
    st.integers(-9, 10**9),
    st.booleans(),
    st.sampled_from([0.5, -2.5, 1e22]),
    st.sampled_from(["", "x", "a = b", "[c]", "# no", "{", 'say "x"', "\\", "1.5", "two\nlines"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)


class Writer:
    """Writes a document as TOML, with tables, arrays and keys in any valid notation."""

    def __init__(self, draw) -> None:
        self._one_of = lambda *choices: draw(st.sampled_from(choices))

    def document(self, table: dict, path: str = "") -> str:
        """Pairs first, then the tables with a header of their own."""
        pairs, tables = [], []
        for name, value in table.items():
            key = self.key(name)
            full = f"{path}.{key}" if path else key
            if isinstance(value, dict) and self._one_of(True, False):
                tables.append(
                    f"{self._one_of('', '  ')}[{full}] # [no]\n{self.document(value, full)}"
                )
            elif self._is_tables(value) and self._one_of(True, False):
                tables += [f"[[ {full} ]]\n{self.document(each, full)}" for each in value]
            elif isinstance(value, dict) and value and self._one_of(True, False):
                pairs += [f"{key} . {self.key(k)} = {self.value(v)}" for k, v in value.items()]
            else:
                pairs.append(f"{self._one_of('', '  ')}{key}={self.value(value)}  # a = 1")
        return "\n".join([*pairs, *tables, ""])

    def _is_tables(self, value) -> bool:
        return isinstance(value, list) and value != [] and all(isinstance(e, dict) for e in value)

    def key(self, name: str) -> str:
        is_bare = name != "" and name.isascii() and name.replace("-", "").isalnum()
        quoted = [json.dumps(name), json.dumps(name, ensure_ascii=False)]
        quoted += [] if "'" in name else [f"'{name}'"]
        return self._one_of(*([name] if is_bare else []), *quoted)

    def value(self, value) -> str:
        if isinstance(value, dict):
            pairs = (f"{self.key(name)} = {self.value(each)}" for name, each in value.items())
            return "{" + ", ".join(pairs) + "}"
        if isinstance(value, list):
            space, comma = self._one_of(("", ","), (" ", " , "), ("\n  # ]\n ", ",\n"))
            end = comma if value and self._one_of(True, False) else ""
            return f"[{space}{comma.join(map(self.value, value))}{end}{space}]"
        return self._one_of(*spellings(value))


def spellings(value) -> list[str]:
    if not isinstance(value, str):
        return [json.dumps(value)]
    ways = [json.dumps(value)]
    if "\n" not in value:
        ways.append(f"'{value}'")
    return [*ways, f"'''\n{value}'''"]


def paths(value, location: Location = ()):
    if location:
        yield location, value
    if isinstance(value, dict | list):
        for part, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(inner, (*location, part))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_every_path_has_the_position_of_its_key_and_value(data):
    document = data.draw(DOCUMENTS)
    text = Writer(data.draw).document(document)
    assert tomllib.loads(text) == document
    places = Positions(text).places
    assert set(places) == {location for location, _ in paths(document)}
    for location, value in paths(document):
        key, start = places[location]
        if isinstance(location[-1], str):
            assert begins_with_key(text[key:], location[-1])
        if not isinstance(value, dict | list):
            assert any(text.startswith(way, start) for way in spellings(value))
        elif key != start:
            assert text[start] == ("[" if isinstance(value, list) else "{")


def begins_with_key(text: str, name: str) -> bool:
    line = text.partition("\n")[0]
    ends = [end for end, sign in enumerate(line, 1) if sign not in " \t"]
    for end in ends:
        try:
            if tomllib.loads(f"{line[:end]} = 1") == {name: 1}:
                return True
        except tomllib.TOMLDecodeError:
            continue
    return False


def test_dates_numbers_and_long_strings_are_one_value_each():
    text = 'a = 1979-05-27 07:32:00.5\nb = [1_000.5e-3, +inf]\nc = """x = 1\n[y]""""\nd = 1\n'
    places = Positions(text).places
    assert set(places) == {("a",), ("b",), ("b", 0), ("b", 1), ("c",), ("d",)}
    assert text[places[("b", 1)].value :].startswith("+inf")


def test_nested_arrays_of_tables_count_from_zero():
    text = "[[a]]\n[[a.b]]\n[[a.b]]\nx = 1\n[[a]]\n[[a.b]]\n[a.b.c]\ny = 2\n"
    places = Positions(text).places
    assert text[places[("a", 0, "b", 1, "x")].value] == "1"
    assert text[places[("a", 1, "b", 0, "c", "y")].value] == "2"


@pytest.mark.parametrize(
    ("text", "key", "first", "again"),
    [
        ("a = 1\nb = 2\na = 3", ("a",), "a = 1", "a = 3"),
        ("[t]\nx = 1\n[t]", ("t",), "t]\nx", "t]"),
        ("t = { x = 1, y = 2, x = 3 }", ("t", "x"), "x = 1", "x = 3"),
        ("a.b = 1\na.b = 2", ("a", "b"), "b = 1", "b = 2"),
        ("[[s]]\ne = 1\n'e' = 2", ("s", 0, "e"), "e = 1", "'e' = 2"),
    ],
)
def test_a_duplicate_key_is_found_with_both_positions(text, key, first, again):
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(text)
    assert Positions(text).repeated == (key, text.index(first), text.rindex(again))


@pytest.mark.parametrize(
    "text", ["[a.b]\n[a]", "[[a]]\n[[a]]", "a.b = 1\na.c = 2", "[a]\nx = 1\n[a.b]\nx = 1"]
)
def test_tables_that_may_be_repeated_are_not_duplicates(text):
    tomllib.loads(text)
    assert Positions(text).repeated is None


DEEP = "a = " + "[" * 400 + "1," * 30_000 + "]" * 400


@pytest.mark.parametrize(
    "text",
    [" " * 65_536, "[" * 65_536, "a." * 32_000 + "=", "\n=" * 32_000, "a = " + "{a=" * 21_000,
     DEEP, "\"'" * 32_000, "a = '''" * 9_000, '"\\' * 32_000, "a = [" + "\n" * 65_000,
     "\n".join(f"a{number} = 1" for number in range(6_000))],
    ids=range(11),
)  # fmt: skip
def test_pathological_text_is_fast(text):
    started = time.process_time()
    Positions(text).nearest(("stage", 0))
    assert time.process_time() - started < 2


def test_deep_nesting_takes_no_memory():
    positions = Positions(DEEP)
    tomllib.loads(DEEP)
    assert len(positions.places) < 40
    assert positions.nearest(("a", *[0] * 400, 5)) is not None
