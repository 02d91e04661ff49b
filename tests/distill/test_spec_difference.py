"""Differences between two specs, by key."""

from typing import Any

import pytest

from curation.toml_text import read_toml
from distill.spec_difference import ABSENT, differences


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
