"""The notebook of examples/ runs from top to bottom, and is committed without outputs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from curation.conversion.convert import convert
from curation.images import encode_jpeg

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "student.ipynb"
PEOPLE, SHOTS = 6, 4


def cells(kind: str) -> list[dict]:
    return [each for each in json.loads(NOTEBOOK.read_text())["cells"] if each["cell_type"] == kind]


@pytest.fixture
def checkout(small_bundle: Path, tmp_path: Path) -> Path:
    """The files that the notebook finds after `just demo`, with smaller images."""
    workspace = tmp_path / "workspace"
    (workspace / "bundles").mkdir(parents=True)
    (workspace / "bundles" / "sample").symlink_to(small_bundle)
    random = np.random.default_rng(0)
    for person in range(PEOPLE):
        folder = tmp_path / "faces" / str(person)
        folder.mkdir(parents=True)
        face = random.integers(0, 256, (32, 32, 3))
        for shot in range(SHOTS):
            noisy = face + random.normal(0, 8, face.shape)
            picture = encode_jpeg(noisy.clip(0, 255).astype(np.uint8))
            (folder / f"{shot}.jpg").write_bytes(picture)
    store = workspace / "datasets" / "sample" / "clean.view"
    store.parent.mkdir(parents=True)
    made = convert(tmp_path / "faces", workspace / "clean.lmdb")
    store.symlink_to(made.path)
    return tmp_path


def test_the_notebook_runs_from_top_to_bottom(checkout: Path) -> None:
    """As a kernel does: cells share their names, and the last value of a cell is displayed."""
    code = "\n".join("".join(each["source"]) for each in cells("code"))
    shown = code.replace(
        "Table(faces, cosines)\n", "print(len(Table(faces, cosines)._repr_html_()))\n"
    )
    assert shown != code
    done = subprocess.run(
        [sys.executable, "-c", shown], cwd=checkout, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shape, table, pairs, counted, *rates = done.stdout.splitlines()
    assert shape.startswith("(8, ")
    assert shape.endswith(" float32")
    assert int(table) > 8 * 500
    assert pairs.endswith("of 28 pairs are right")
    assert counted == "36 genuine and 240 impostor pairs"
    assert rates[0].startswith("TAR at FAR 1e-2: ")


def test_the_notebook_has_no_outputs_and_plain_python() -> None:
    for cell in cells("code"):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        compile("".join(cell["source"]), str(NOTEBOOK), "exec")
    assert cells("code")
