"""Every number of a spec and of a recipe is bounded: no meaningless value is accepted."""

import types
import typing
from pathlib import Path

import annotated_types
import pytest
from pydantic import BaseModel

from curation.errors import UserError
from curation.recipes.file import Recipe
from distill.losses.settings import known_settings, names
from distill.spec import JobSpec
from distill.spec_text import parse_spec


def numbers(annotation, metadata, where):
    """``(where, bounds)`` of every int and float inside a type."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield from numbers(inner[0], [*inner[1:], *metadata], where)
    elif annotation in (int, float):
        yield where, list(flat(metadata))
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from numbers(field.annotation, field.metadata, f"{where}.{name}")
    else:
        of_each = metadata if origin in (typing.Union, types.UnionType) else []
        for each in inner:
            yield from numbers(each, of_each, where)


def flat(metadata):
    for each in metadata:
        if isinstance(each, annotated_types.GroupedMetadata):
            yield from each
        else:
            yield from flat(each.metadata) if hasattr(each, "metadata") else [each]


MODELS = {"job": JobSpec, "recipe": Recipe, **{name: known_settings(name) for name in names()}}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_number_has_a_lower_and_an_upper_bound(model):
    found = list(numbers(model, [], model.__name__))
    assert found
    for where, bounds in found:
        kinds = tuple(map(type, bounds))
        assert annotated_types.Gt in kinds or annotated_types.Ge in kinds, where
        assert annotated_types.Lt in kinds or annotated_types.Le in kinds, where


SPEC = """
name = "x"
data = {{ train = "d/train" }}
student = {{ backbone = "mobilefacenet" }}
[[stage]]
epochs = {epochs}
losses = {{ arcface = {{ margin = {margin} }} }}
[train]
{train}
"""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 2**63 - 1}, "s:6:10: stage 1: epochs: 9223372036854775807 is above 10000"),
        ({"epochs": 0}, "s:6:10: stage 1: epochs: 0 is below 1"),
        ({"margin": 28.6},
         "s:7:33: stage 1: losses.arcface.margin: 28.6 is above 1.5708 (radians)"),
        ({"train": "ranks = 5_000"}, "s:9:9: train.ranks: 5000 is above 4096"),
        ({"train": "keep_checkpoints = 1_000_000"},
         "s:9:20: train.keep_checkpoints: 1000000 is above 1000"),
        ({"train": "learning_rate = 0.0"}, "s:9:17: train.learning_rate: must be above 0, got 0.0"),
        ({"train": "power = nan"},
         "s:9:9: train.power: must be a finite number, got nan"),
        ({"train": "power = inf"}, "s:9:9: train.power: inf is above 100"),
        ({"train": "milestones = [0.5, 0]"}, "s:9:20: train.milestones 2: must be above 0, got 0"),
    ],
)  # fmt: skip
def test_a_number_beyond_its_end_is_reported_with_its_place(given, words):
    with pytest.raises(UserError) as error:
        parse_spec(SPEC.format(**{"epochs": 1, "margin": 0.5, "train": "", **given}), "s")
    assert str(error.value) == words


def test_the_guide_quotes_the_error_of_a_number():
    with pytest.raises(UserError) as error:
        parse_spec(SPEC.format(epochs=1, margin=28.6, train=""), "s")
    message = str(error.value).removeprefix("s:7:33: ")
    assert f": {message}\n```" in (Path(__file__).parents[2] / "docs" / "guide.md").read_text()


TEACHER = """
name = "x"
data = {{ train = "d/train" }}
student = {{ backbone = "mobilefacenet" }}
[[stage]]
epochs = 1
losses = {{ arcface = {{}} }}
[[teacher.ensemble]]
from = "a.onnx"
preprocessing = {{ colour = "RGB", mean = {mean}, std = 1.0, size = {size} }}
"""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mean": "[[], 2.0, 3.0]"}, "mean 1: must be a number"),
        ({"mean": "[1.0, 2.0, {}]"}, "mean 3: must be a number"),
        ({"mean": "[1.0, 2.0]"}, "mean: value 3 is missing"),
        ({"mean": "true"}, "mean: must be a number"),
        ({"size": "[112, 0]"}, "size 2: must be above 0, got 0"),
        ({"size": "[[112], 112]"}, "size 1: must be a whole number"),
    ],
)
def test_a_number_in_a_list_is_reported_with_its_place(given, words):
    text = TEACHER.format(**{"mean": "127.5", "size": "[112, 112]", **given})
    with pytest.raises(UserError, match=r"^s:10:\d+: teacher.ensemble 1: prep") as error:
        parse_spec(text, "s")
    assert words in str(error.value)
