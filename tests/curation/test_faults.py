"""Faults that pydantic finds are reported in our own words."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from curation.faults import requirement

ROOT = Path(__file__).parents[2]


class Sample(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    colour: Literal["RGB", "BGR"] = "RGB"
    count: int = Field(default=1, ge=1, le=9)
    share: float = Field(default=0.5, gt=0, lt=1)
    name: str = Field(default="a", min_length=1, max_length=3)
    parts: Annotated[tuple[int, ...], Field(min_length=1, max_length=2)] = (1,)
    given: bool = True
    inner: dict[str, int] = {}
    other: str = "a"

    @field_validator("other")
    @classmethod
    def not_b(cls, value: str) -> str:
        if value == "b":
            raise ValueError("b is taken")
        return value


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        pytest.param("colour", "XYZ", "must be 'RGB' or 'BGR'", id="choice"),
        pytest.param("count", 0, "must be at least 1", id="least"),
        pytest.param("count", 10, "must be at most 9", id="most"),
        pytest.param("count", "x", "must be a whole number", id="whole"),
        pytest.param("share", 0.0, "must be above 0", id="above"),
        pytest.param("share", 1.0, "must be below 1", id="below"),
        pytest.param("share", "x", "must be a number", id="number"),
        pytest.param("name", "", "must not be empty", id="short-text"),
        pytest.param("name", "abcd", "must have at most 3 characters", id="long-text"),
        pytest.param("name", 1, "must be a string", id="text"),
        pytest.param("parts", (), "must not be empty", id="short-list"),
        pytest.param("parts", (1, 2, 3), "must have at most 2 elements", id="long-list"),
        pytest.param("given", 1, "must be true or false", id="flag"),
        pytest.param("inner", 1, "must be an object with keys", id="table"),
        pytest.param("other", "b", "b is taken", id="own"),
        pytest.param("unknown", 1, "is not a known key", id="key"),
    ],
)
def test_a_fault_states_what_is_allowed(key: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Sample(**{key: value})
    assert requirement(raised.value.errors()[0]) == words


def test_an_unknown_fault_keeps_pydantics_words() -> None:
    assert requirement({"type": "new_type", "msg": "Input is new"}) == "Input is new"
    assert requirement({"type": "enum", "msg": "Input is wrong", "ctx": {}}) == "Input is wrong"


def test_no_other_module_shows_pydantics_words() -> None:
    shown = re.compile(r"""\[["']msg["']\]""")
    modules = [
        module.relative_to(ROOT).as_posix()
        for package in ("curation", "teachers", "distill")
        for module in sorted((ROOT / package).rglob("*.py"))
        if shown.search(module.read_text("utf-8"))
    ]
    assert modules == ["curation/faults.py"]
