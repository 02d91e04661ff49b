"""docs/architecture.md names every module, and its layers match the import contracts."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def parts(package: str) -> list[str]:
    """The package's modules and folders, as written on the page."""
    paths = sorted((ROOT / package).iterdir())
    modules = [path.stem for path in paths if path.suffix == ".py" and path.stem[0] != "_"]
    return modules + [f"{path.name}/" for path in paths if (path / "__init__.py").exists()]


@pytest.mark.parametrize("package", ["curation", "teachers", "distill"])
def test_the_page_names_every_module(package: str) -> None:
    section = PAGE.split(f"### {package}\n")[1].split("\n## ")[0].split("\n### ")[0]
    named = set(re.findall(r"`([a-z0-9_]+/?)`", section))
    assert [part for part in parts(package) if part not in named] == []


def test_files_that_the_page_names_exist() -> None:
    named = re.findall(r"`((?:curation|teachers|distill|tests)/[a-z0-9_/]+\.py)`", PAGE)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_layers_of_the_page_are_those_of_the_contracts() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    packages, inside = [each["layers"] for each in contracts if each["type"] == "layers"]
    expected = [name for layer in (*inside, *packages[1:]) for name in layer.split(" | ")]
    listed = re.findall(r"^\d+\. (`[^:\n]*)", PAGE.split("## Packages")[1].split("### ")[0], re.M)
    assert re.findall(r"`([a-z_.]+)`", " ".join(listed)) == expected


def test_imports_keep_to_the_layers() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    outcome = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout
