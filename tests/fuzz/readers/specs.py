"""Job specs and recipes: hand-written TOML."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.files import read_whole
from curation.recipes.file import RECIPES, parse_recipe
from curation.toml_text import read_toml
from curation.toml_writing import toml_value
from distill.daemon.names import name_in
from distill.spec_source import read_spec
from distill.spec_text import SpecFile, parse_spec
from tests.fuzz.harness import Files, Special, reader

_SPEC = b"""name = "try"
[data]
train = "drawn/train"
evaluate = ["pairs", "drawn/other"]
[[teacher.ensemble]]
from = "teacher.onnx"
preprocessing = { colour = "RGB", mean = [127.5, 127.5, 127.5], std = 127.5, size = [112, 112] }
[[teacher.ensemble]]
from = "drawn"
[student]
backbone = "mobilefacenet"
input_size = [112, 112]
[[stage]]
epochs = 2
losses = { arcface = { margin = 0.4 }, angular = { weight = 2.0 } }
[[stage]]
epochs = 1
learning_rate = 0.01
losses = { arcface = {} }
[generations]
count = 2
seeds = [1, 2]
select_on = ["pairs"]
[train]
batch_size = 64
schedule = "step"
milestones = [0.5, 0.8]
[export]
formats = ["onnx"]
"""
_ODD = (
    "a" + ".a" * 40 + " = 1", "[" + "b." * 3_000 + "b]", "x = " + "[" * 3_000, "x = " + "{a=" * 900,
    "x = " + "9" * 6_000, "x = 0x" + "f" * 6_000, "x = 1e999", "x = nan", "x = -inf", '"""', "'''",
    'x = "\\u0000"', '"\\u202e\\u001b[2J" = 1', "x = 2001-02-30", "[[a]]", "[a]\n[a]", "\0", "=",
    "x = [" + "1," * 9_000 + "]", "x = [" + "{}," * 9_000 + "]",
    "k" * 30_000 + " = 1", "# " * 30_000,
)  # fmt: skip


def _add(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Add a line or a value that is hard for TOML parsers."""
    for name, content in list(files.items()):
        if isinstance(content, bytes):
            lines = content.split(b"\n")
            at, odd = rng.randrange(len(lines)), rng.choice(_ODD).encode()
            if rng.random() < 0.5 and b"=" in lines[at] and b"=" in odd:
                odd = lines[at].partition(b"=")[0] + b"= " + odd.partition(b"=")[2]
            lines[at] = odd
            files[name] = b"\n".join(lines)


_VALUES: list[Any] = [
    0, -1, 2**62, 0.0, -0.5, 1e308, float("nan"), float("inf"), True, "", "x", [], {}, [[]], [0],
    [-1, 1], {"a": 1}, {"losses": 1}, {"losses": {"x": 1}}, [{"a": 1}], ["a", "a"], [1] * 2000,
]  # fmt: skip


def _replace(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Change the type or size of a value anywhere in the document, or add an unknown key."""
    for name, content in list(files.items()):
        try:
            document = read_toml(content.decode() if isinstance(content, bytes) else "=", name)
        except (ValueError, UserError):
            continue
        if not document:
            continue
        table, key = rng.choice(list(_places(document)))
        key = rng.choice((key, "odd")) if isinstance(table, dict) else key
        table[key] = copy.deepcopy(rng.choice(_VALUES))
        pairs = (f"{json.dumps(key)} = {toml_value(value)}" for key, value in document.items())
        files[name] = "\n".join(pairs).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each table or array in a document, with each of its keys."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _specs() -> list[Files]:
    return [{"spec.toml": _SPEC}]


def _recipes() -> list[Files]:
    return [{"recipe.toml": path.read_bytes()} for path in sorted(RECIPES.glob("*.toml"))]


@reader("spec", _specs, [_add, _replace])
def read(folder: Path) -> None:
    """Read a spec as the command does, and as the daemon does before it runs the command."""
    text = read_spec(folder / "spec.toml")
    name_in(text)
    job = parse_spec(text, "spec.toml")
    again = SpecFile.parse(text, "spec.toml", [f'name="{job.name}"'])
    assert SpecFile.parse(again.text).job == job


def _overrides() -> list[Files]:
    given = ("train.seed=3", "stage[1].losses.arcface={ margin = 0.4 }", "stage.0.epochs=2",
             "data.evaluate=['pairs']", "train.schedule=step", '"train"."seed"=0x10')  # fmt: skip
    return [{"set": each.encode()} for each in given]


@reader("override", _overrides, [_add], share=0.3)
def read_override(folder: Path) -> None:
    """Read the values of `--set`, which may be any bytes in a shell."""
    given = read_whole(folder / "set", 1 << 20).decode(errors="surrogateescape")
    spec = SpecFile.parse(_SPEC.decode(), "spec.toml", [given])
    assert SpecFile.parse(spec.text).job == spec.job


@reader("recipe", _recipes, [_add, _replace])
def read_recipe(folder: Path) -> None:
    """Check a recipe's format with the parser of specs."""
    parse_recipe(read_spec(folder / "recipe.toml"), "recipe.toml")
