"""A bundle from a model hub, opened in the cache of the hub's client."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

import distill
from curation.errors import UserError


def as_snapshot(bundle: Path, cache: Path) -> Path:
    """A folder like that of ``huggingface_hub.snapshot_download``.

    It has links to files that are named after their contents.
    """
    repository = cache / "models--someone--student"
    snapshot, blobs = repository / "snapshots" / ("ab" * 20), repository / "blobs"
    blobs.mkdir(parents=True)
    for path in bundle.rglob("*"):
        if path.is_file():
            blob = blobs / hashlib.sha256(path.read_bytes()).hexdigest()
            shutil.copy(path, blob)
            link = snapshot / path.relative_to(bundle)
            link.parent.mkdir(parents=True, exist_ok=True)
            up = "../" * len(link.relative_to(repository).parts[:-1])
            link.symlink_to(f"{up}blobs/{blob.name}")
    (snapshot / ".gitattributes").write_text("*.onnx filter=lfs\n")
    return snapshot


def test_a_snapshot_of_the_hub_is_a_bundle(small_bundle, tmp_path):
    student = distill.load(as_snapshot(small_bundle, tmp_path))
    assert student.check_golden() > 0.99999
    assert student.embed(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 16)


@pytest.mark.parametrize("name", ["model.onnx", "config.json", "SHA256SUMS"])
def test_a_snapshot_cannot_link_outside(name, small_bundle, tmp_path):
    snapshot = as_snapshot(small_bundle, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    shutil.copy(small_bundle / name, elsewhere)
    (snapshot / name).unlink()
    (snapshot / name).symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"a link|no SHA256SUMS"):
        distill.load(snapshot)
