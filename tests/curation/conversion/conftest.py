"""Conversions of small sets in several steps."""

import pytest

import curation.conversion.build
import curation.sources.read_ahead


@pytest.fixture
def many_batches(monkeypatch):
    """Blocks and commits small enough that these little sets have about ten."""
    monkeypatch.setattr(curation.sources.read_ahead, "BLOCK_BYTES", 16_384)
    monkeypatch.setattr(curation.conversion.build, "COMMIT_BYTES", 20_000)
    monkeypatch.setattr(curation.conversion.build, "COMMIT_IMAGES", 15)
    monkeypatch.setattr(curation.conversion.build, "_BATCH", 10)
