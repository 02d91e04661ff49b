"""The wheel contains only what the packages need, and works after installation."""

import fnmatch
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("curation", "teachers", "distill")
OUTSIDE_THE_PACKAGES = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt",
                        "licenses/LICENSE"}  # fmt: skip
KINDS_OF_DATA = ("py.typed", "*.toml", "*.json", "*.txt", "*.onnx", "*.html", "*.css", "*.js",
                 "*.svg", "*.LICENSE", "*.sql")  # fmt: skip


def run(*words: object, cwd: Path, **environment: str) -> str:
    known = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env={**known, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without network from a copy, because a build leaves folders next to the sources."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index",
        "--quiet", "--wheel-dir", source / "dist", source, cwd=source)  # fmt: skip
    (built,) = (source / "dist").iterdir()
    return built


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def in_checkout() -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    assert in_checkout() - names(wheel) == set(), "add it to package-data in pyproject.toml"


def test_the_wheel_has_nothing_but_the_packages(wheel: Path) -> None:
    assert names(wheel) - in_checkout() == set()
    with zipfile.ZipFile(wheel) as archive:
        about = {name.split(".dist-info/")[1] for name in archive.namelist()
                 if ".dist-info/" in name}  # fmt: skip
    assert about == OUTSIDE_THE_PACKAGES


def test_the_wheel_has_modules_and_known_kinds_of_data(wheel: Path) -> None:
    data = [name for name in names(wheel) if not name.endswith(".py")]
    strange = [
        name for name in data
        if not any(fnmatch.fnmatch(Path(name).name, kind) for kind in KINDS_OF_DATA)
    ]  # fmt: skip
    assert strange == []
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(data)


def test_the_wheel_has_the_version_of_the_package(wheel: Path) -> None:
    from distill import __version__

    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_installed_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Uses this environment's libraries; `just release` also installs them from scratch."""
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet",
        "--target", site, wheel, cwd=tmp_path)  # fmt: skip
    where = "import distill; print(distill.__file__)"
    assert run(sys.executable, "-c", where, cwd=tmp_path, PYTHONPATH=str(site)).startswith(
        str(site)
    )
    listed = run(site / "bin" / "distill", "backbones", cwd=tmp_path, PYTHONPATH=str(site))
    assert "mobilefacenet" in listed
    recipes = run(site / "bin" / "curate", "recipes", cwd=tmp_path, PYTHONPATH=str(site))
    assert "sample" in recipes
