"""Differences between two specs, by key."""

from typing import Any

import pytest

from curation.toml_text import read_toml
from distill.spec_difference import ABSENT, another_spec, differences, is_same_spec


def different(first: str, second: str) -> dict[str, tuple[Any, Any]]:
    found = differences(read_toml(first, "a"), read_toml(second, "b"))
    return {line.key: (line.first, line.second) for line in found}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("a = 1", "a = 1.0 # the same number", {}),
        ("a = 1", "a = true", {"a": (1, True)}),
        ("a = '1'", "a = 1", {"a": ("1", 1)}),
        ("a = nan", "a = nan", {}),
        ("a = [nan, 1]", "a = [nan, 1]", {}),
        ("a = []", "", {"a": ([], ABSENT)}),
        ("[a]\nb = 1\nc = 2", "a = { c = 2, b = 1 }", {}),
        ("[a]", "a.b = {}", {"a": ({}, ABSENT), "a.b": (ABSENT, {})}),
        ("[[s]]\ne = 1\n[[s]]\ne = 2", "[[s]]\ne = 1", {"s[1].e": (2, ABSENT)}),
        ("a.b = 1", "'a.b' = 1", {"a.b": (1, ABSENT), '"a.b"': (ABSENT, 1)}),
        ("a = 1\nb = 1\nz = 1", "z = 2\nb = 1\na = 2", {"a": (1, 2), "z": (1, 2)}),
        ("", "", {}),
    ],
)
def test_differences_are_named(first: str, second: str, expected: dict[str, Any]) -> None:
    assert different(first, second) == expected
    turned = {key: (one, other) for key, (other, one) in expected.items()}
    assert different(second, first) == turned


def test_deep_values_equal_themselves() -> None:
    text = "a = " + "{ b = " * 60 + "1" + " }" * 60
    assert different(text, text) == {}
    (key,) = different(text, "")
    assert key == ".".join(["a", *"b" * 60])


def test_a_sentence_names_a_few_keys_and_counts_the_others() -> None:
    before, now = ("\n".join(f"k{key} = {value}" for key in range(7)) for value in (1, 2))
    told = another_spec("a", before, now)
    assert told.startswith("job 'a' exists with another spec: k0 was 1 and is 2, k1 was")
    assert told.endswith("k4 was 1 and is 2, and 2 more")
    assert len(another_spec("a", f"a = '{'x' * 10_000}'", "a = 1")) < 300
    assert another_spec("a", "a = ", "a = 1", "is running").startswith(
        "job 'a' is running with another spec: its spec:1:4: "
    )


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("a = 1\nb = 2", "# why\na  =  1\n\nb = 2.0 # so", True),
        ("[a]\nb = 1", "a.b = 1", True),
        ("a = 1\nb = 2", "b = 2\na = 1", False),  # the order of losses is that of their sum
        ("a = 1", "a = 1\nb = 2", False),
        ("a = 1", "a = true", False),
        ("a =", "a = 1", False),
        ("a =", "a =", True),
    ],
)
def test_comments_and_layout_do_not_count(first: str, second: str, same: bool) -> None:
    assert is_same_spec(first, second) == same


def test_another_order_of_keys_is_named() -> None:
    assert another_spec("a", "a = 1\nb = 2", "b = 2\na = 1").endswith(
        "only the order of keys differs"
    )
