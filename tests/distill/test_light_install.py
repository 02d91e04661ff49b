"""`pip install face-distill` alone runs and evaluates bundles, without torch, curation or jobs."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from curation.images import encode_jpeg
from curation.pairs import write_pairs
from distill.cli.extras import EXTRAS, install_hint
from tests import test_wheel

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
wheel = test_wheel.wheel
Run = Callable[..., subprocess.CompletedProcess[str]]


def closure(requirements: Iterable[str]) -> dict[str, Distribution]:
    """The installed distributions of these requirements, with all their dependencies."""
    found: dict[str, Distribution] = {}
    waiting = list(requirements)
    while waiting:
        wanted = Requirement(waiting.pop())
        name = canonicalize_name(wanted.name)
        if name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found[name] = distribution(name)
        waiting += found[name].requires or []
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with exactly a plain installation, made of links."""
    place = tmp_path_factory.mktemp("light")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (packages,) = place.glob("lib/python3*/site-packages")
    for each in closure(PROJECT["dependencies"]).values():
        for name in {file.parts[0] for file in each.files or []} - {"..", "__pycache__"}:
            if not (packages / name).exists():
                (packages / name).symlink_to(Path(each.locate_file(name)))
    for name in ("curation", "distill", "teachers"):
        (packages / name).symlink_to(ROOT / name)
    return place / "bin" / "python"


@pytest.fixture
def run(python: Path, tmp_path: Path) -> Run:
    return runner(python, tmp_path)


def runner(python: Path, tmp_path: Path) -> Run:
    """Runs a command of an environment in its own workspace."""
    known = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ}

    def start(*words: object, module: str = "distill") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-m", module, *map(str, words)],
            env={**known, "DISTILL_WORKSPACE": str(tmp_path / "workspace")},
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return start


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty people, two images each."""
    folder, random = tmp_path_factory.mktemp("faces"), np.random.default_rng(0)
    people = random.integers(0, 256, (20, 8, 8, 3)).repeat(14, axis=1).repeat(14, axis=2)
    paths = []
    for number, person in enumerate(people):
        for shot in range(2):
            picture = np.clip(person + random.integers(-40, 41, person.shape), 0, 255)
            paths.append(folder / f"{number:02}-{shot}.jpg")
            paths[-1].write_bytes(encode_jpeg(picture.astype(np.uint8)))
    return paths


@pytest.fixture(scope="module")
def pairs(faces: list[Path]) -> Path:
    """Each person's genuine pair, and an impostor pair with the next person."""
    files = [path.read_bytes() for path in faces]
    path = faces[0].parent / "drawn.bin"
    write_pairs(
        path,
        [each for i in range(39) for each in files[i : i + 2]],
        [i % 2 == 0 for i in range(39)],
    )
    return path


def test_bundles_are_embedded_verified_and_evaluated(run: Run, small_bundle, faces, pairs):
    embedded = run("embed", small_bundle, *faces[:3], "--json")
    assert len(json.loads(embedded.stdout)["embeddings"]) == 3, embedded.stderr
    verified = json.loads(run("verify", small_bundle, "--json").stdout)
    assert verified["golden_cosines"]["onnx"] > 0.9999
    assert verified["golden_cosines"]["torch"] is None
    evaluated = run("evaluate", small_bundle, pairs, "--json")
    assert json.loads(evaluated.stdout)["sets"]["drawn"]["genuine"] == 20, evaluated.stderr
    refused = run("threshold", small_bundle, pairs, "--far", "1e-3")
    assert "no set measures FAR 1e-3" in refused.stderr


def test_an_onnx_file_is_evaluated(run: Run, small_bundle: Path, pairs: Path):
    preprocessing = ("--mean", "127.5", "--std", "128", "--colour", "BGR", "--size", "32")
    evaluated = run("evaluate", small_bundle / "model.onnx", pairs, *preprocessing, "--json")
    assert json.loads(evaluated.stdout)["sets"]["drawn"]["genuine"] == 20, evaluated.stderr


def test_the_table_says_what_a_runtime_lacks(run: Run, small_bundle: Path):
    assert "face-distill[train]" in " ".join(run("verify", small_bundle).stdout.split())


@pytest.mark.parametrize(
    ("module", "words", "package", "extra"),
    [
        ("distill", ["serve"], "fastapi", "train"),
        ("distill", ["run", ROOT / "jobs" / "sample.toml"], "torch", "train"),
        ("distill.cli.curate", ["recipe", "sample"], "lmdb", "curate"),
    ],
)
def test_a_command_that_needs_more_says_what_to_install(run: Run, module, words, package, extra):
    done = run(*words, module=module)
    assert done.returncode == 1
    expected = f"error: this needs {package}, which is not installed: "
    assert done.stderr.splitlines()[-1] == f"{expected}`pip install 'face-distill[{extra}]'`"


@pytest.mark.parametrize("package", sorted(EXTRAS))
def test_the_extra_that_is_named_brings_the_package(package: str):
    distributions = {canonicalize_name(each) for each in packages_distributions()[package]}
    wanted = PROJECT["optional-dependencies"][EXTRAS[package]]
    assert distributions & {canonicalize_name(Requirement(each).name) for each in wanted}


def test_an_unknown_module_is_no_extra():
    assert install_hint(ModuleNotFoundError("no module", name="nonsense.part")) is None


@pytest.mark.slow
def test_a_fresh_environment_has_all_that_bundles_need(
    wheel: Path, tmp_path: Path, small_bundle: Path, faces: list[Path], pairs: Path
):
    place = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    python, wheels = place / "bin" / "python", tmp_path / "wheels"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "download", "--dest", wheels, wheel], check=True)
    assert sum(path.stat().st_size for path in wheels.iterdir()) < 300e6
    subprocess.run([*pip, "install", "--no-index", "--find-links", wheels, wheel], check=True)
    run = runner(python, tmp_path)
    embedded = run("embed", small_bundle, *faces[:3], "--json")
    assert len(json.loads(embedded.stdout)["embeddings"]) == 3, embedded.stderr
    verified = json.loads(run("verify", small_bundle, "--json").stdout)
    assert verified["golden_cosines"]["onnx"] > 0.9999
    evaluated = run("evaluate", small_bundle, pairs, "--json")
    assert json.loads(evaluated.stdout)["sets"]["drawn"]["genuine"] == 20, evaluated.stderr
    timed = "import time, distill.export.embedder; print(time.process_time())"
    seconds = [
        float(subprocess.run([python, "-c", timed], capture_output=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 0.5
