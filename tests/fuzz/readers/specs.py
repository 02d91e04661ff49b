"""Job specs and recipes: TOML of people."""

import random
from pathlib import Path

from curation.recipes.file import RECIPES, parse_recipe
from distill.daemon.names import name_in
from distill.spec_text import parse_spec, read_spec
from tests.fuzz.harness import Files, Special, reader

_SPEC = b"""name = "try"
[data]
train = "drawn/train"
evaluate = ["pairs", "drawn/other"]
[teacher]
from = "teacher.onnx"
preprocessing = { colour = "RGB", mean = 127.5, std = 127.5, size = [112, 112] }
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
[train]
batch_size = 64
schedule = "step"
milestones = [0.5, 0.8]
"""
_ODD = (
    "a" + ".a" * 40 + " = 1", "[" + "b." * 3_000 + "b]", "x = " + "[" * 3_000, "x = " + "{a=" * 900,
    "x = " + "9" * 6_000, "x = 0x" + "f" * 6_000, "x = 1e999", "x = nan", "x = -inf", '"""', "'''",
    'x = "\\u0000"', '"\\u202e\\u001b[2J" = 1', "x = 2001-02-30", "[[a]]", "[a]\n[a]", "\0", "=",
    "x = [" + "1," * 9_000 + "]", "x = [" + "{}," * 9_000 + "]",
    "k" * 30_000 + " = 1", "# " * 30_000,
)  # fmt: skip


def _add(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """A line, or a value, that TOML's readers find hard."""
    for name, content in list(files.items()):
        if isinstance(content, bytes):
            lines = content.split(b"\n")
            at, odd = rng.randrange(len(lines)), rng.choice(_ODD).encode()
            if rng.random() < 0.5 and b"=" in lines[at] and b"=" in odd:
                odd = lines[at].partition(b"=")[0] + b"= " + odd.partition(b"=")[2]
            lines[at] = odd
            files[name] = b"\n".join(lines)


def _specs() -> list[Files]:
    return [{"spec.toml": _SPEC}]


def _recipes() -> list[Files]:
    return [{"recipe.toml": path.read_bytes()} for path in sorted(RECIPES.glob("*.toml"))]


@reader("spec", _specs, [_add, _add])
def read(folder: Path) -> None:
    """As the command reads one, and as the daemon does before it asks the command."""
    text = read_spec(folder / "spec.toml")
    name_in(text)
    parse_spec(text, "spec.toml")


@reader("recipe", _recipes, [_add, _add])
def read_recipe(folder: Path) -> None:
    """The form of one, through the same door as a spec."""
    parse_recipe(read_spec(folder / "recipe.toml"), "recipe.toml")
