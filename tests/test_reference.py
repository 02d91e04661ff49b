"""The generated pages are up to date, and the schema of specs agrees with the models."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "distill" / "spec.schema.json").read_text())
JOBS = sorted(ROOT.glob("jobs/*.toml"))
SMALL = """
name = "small"
[data]
train = "sample/train"
[student]
backbone = "mobilefacenet"
[[stage]]
epochs = 1
losses = { arcface = { margin = 0.4 } }
"""


def faults(spec: str) -> list[str]:
    validator = jsonschema.Draft7Validator(SCHEMA)
    return ["/".join(map(str, each.path)) for each in validator.iter_errors(tomllib.loads(spec))]


def test_generated_pages_are_up_to_date() -> None:
    """In a separate process because other tests register losses and checks in this one."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.reference", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_schema_is_a_valid_json_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_the_schema_accepts_the_ready_jobs(path: Path) -> None:
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    ("given", "instead", "where"),
    [
        ("epochs = 1", "epochs = 0", "stage/0/epochs"),
        ("epochs = 1", "epoch = 1", "stage/0"),
        ("margin = 0.4", "margin = 28.6", "stage/0/losses/arcface/margin"),
        ("arcface", "arcfase", "stage/0/losses"),
        ('"mobilefacenet"', '"mobilefacenut"', "student/backbone"),
        ('"sample/train"', "{ set = 1 }", "data/train"),
        ("[student]", "[train]\nschedule = 'sine'\n[student]", "train/schedule"),
    ],
)
def test_the_schema_refuses(given: str, instead: str, where: str) -> None:
    assert faults(SMALL) == []
    assert where in faults(SMALL.replace(given, instead))


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ('"sample/train"', '[{ set = "a/b", share = 0.5 }, { set = "c/d", labels = false }]'),
        ('"mobilefacenet"', '"timm/resnet18"'),
        ("[student]", "[augment]\nviews = 'fresh'\n[student]"),
        ("[student]", "[student]\ninput_size = [112, 96]"),
    ],
)
def test_the_schema_accepts_every_form(given: str, instead: str) -> None:
    assert faults(SMALL.replace(given, instead)) == []


def test_the_command_prints_the_schema_that_is_shipped() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "distill", "schema"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == SCHEMA
