"""Shared by the tests of checkpoints: a file name, and few networks to search."""

import pytest

from teachers import checkpoints


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


@pytest.fixture(autouse=True)
def small_registry(monkeypatch):
    """Few names to search when a file does not match."""
    names = ("adaface_ir18", "iresnet18", "treb1en_ir50")
    kept = {name: checkpoints.NETWORKS[name] for name in names}
    monkeypatch.setattr(checkpoints, "NETWORKS", kept)
