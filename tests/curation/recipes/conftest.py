"""A workspace and a training set for recipes."""

import pytest

from curation.pairs import write_pairs
from curation.workspace import Workspace

COUNTS = {0: 60, 1: 4, 2: 5, 3: 20, 4: 1}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.delenv("MS1M_SOURCE", raising=False)
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def source(write_source, noise_images):
    folder = write_source(COUNTS)
    write_pairs(folder / "lfw.bin", noise_images[:4], [True, False])
    (folder / "broken.bin").write_bytes(b"no pickle")
    return folder
