"""The scripts in examples/python run as their first lines say."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from curation.images import encode_jpeg
from curation.store import Store

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "python"


def run(name: str, *arguments: Path) -> list[str]:
    """The output of a script."""
    done = subprocess.run(
        [sys.executable, str(FOLDER / name), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_script_has_a_test() -> None:
    tried = Path(__file__).read_text()
    assert [path.name for path in FOLDER.glob("*.py") if f'run("{path.name}"' not in tried] == []


def test_a_bundle_compares_two_faces(small_bundle: Path, tmp_path: Path) -> None:
    face = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(face))
    (said,) = run("load_bundle.py", small_bundle, tmp_path / "a.jpg", tmp_path / "a.jpg")
    assert said == "cosine 1.000: one person (threshold 0.400, from easy)"


def test_a_store_is_read_by_a_loader(drawn_store: Store) -> None:
    head, batch = run("read_store.py", drawn_store.path)
    assert head == "48 images of 6 identities"
    assert batch.startswith("a batch: [8, 3, 48, 48], labels [")


def test_a_loop_learns(drawn_store: Store) -> None:
    (epoch,) = run("own_loop.py", drawn_store.path)
    assert 0 < float(epoch.removeprefix("epoch 1: loss ")) < 20


def test_embeddings_are_scored(tmp_path: Path) -> None:
    labels = np.arange(400) // 4
    random = np.random.default_rng(0)
    people = random.normal(size=(100, 64))[labels]
    np.save(tmp_path / "embeddings.npy", people + 0.5 * random.normal(size=people.shape))
    np.save(tmp_path / "labels.npy", labels)
    head, *rates = run("score_embeddings.py", tmp_path / "embeddings.npy", tmp_path / "labels.npy")
    assert head == "600 genuine and 79,200 impostor pairs"
    assert rates[0].startswith("TAR at FAR 1e-2: 1.0000 above")
    assert rates[-1].startswith("TAR at FAR 1e-8: ")
