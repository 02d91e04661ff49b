"""Documents written as TOML are read back unchanged."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.toml_writing import toml_text

DOCUMENTS = [
    "",
    "a = 1\nb = -0.5\nc = true\nd = [1, [2, 3], []]",
    "a = 1e-300\nb = inf\nc = -inf\nd = 1_000\ne = 1e22",
    "a = 1979-05-27T07:32:00.5Z\nb = 1979-05-27\nc = 07:32:00\nd = 1979-05-27T07:32:00",
    'a = \'quote " and \\ back\'\nb = "\\u007f\\u0000 \\n \U0001f600"',
    "[a]\n[b.c]\nd = 1\n[[e]]\nf = { g = 1 }\n[[e]]\n[[e.h]]\ni = 2\n[[e.h]]",
    "a = [{ b = 1 }, 2, { c = {} }]\n[\"odd . key\".'']\nx = 1",
    "[a]\nb = { c = 1 }\nd = 2",
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | TEXTS
    | st.datetimes(allow_imaginary=False).map(lambda at: at.replace(fold=0))
    | st.dates()
    | st.times().map(lambda at: at.replace(fold=0)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("text", DOCUMENTS)
def test_parsed_documents_survive_a_round_trip(text: str) -> None:
    document = tomllib.loads(text)
    assert tomllib.loads(toml_text(document)) == document


@given(st.dictionaries(TEXTS, VALUES))
def test_every_document_survives_a_round_trip(document: dict) -> None:
    assert repr(tomllib.loads(toml_text(document))) == repr(ordered(document))


def ordered(value: object) -> object:
    """The plain values of each table before its subtables, as TOML requires."""
    if isinstance(value, list):
        return [ordered(each) for each in value] if has_header(value) else value
    if not isinstance(value, dict):
        return value
    plain = {key: each for key, each in value.items() if not has_header(each)}
    return plain | {key: ordered(each) for key, each in value.items() if has_header(each)}


def has_header(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, dict) for each in value)
    return isinstance(value, dict)


def test_tables_have_headers_and_no_empty_line_comes_first() -> None:
    document = {"train": {"seed": 3}, "name": "a", "stage": [{"losses": {"arcface": {}}}]}
    assert toml_text(document) == (
        'name = "a"\n\n[train]\nseed = 3\n\n[[stage]]\n\n[stage.losses]\n\n[stage.losses.arcface]\n'
    )
