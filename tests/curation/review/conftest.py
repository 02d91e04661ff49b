"""A small store with findings, and a review of it at a controlled time."""

import shutil
from pathlib import Path

import pytest
from planted_findings import checked_store

from curation.review.review import Review
from tests.curation.review.review_harness import Clock, open_review


@pytest.fixture(scope="module")
def people(drawn_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    checked_store(drawn_folder, folder)
    return folder


@pytest.fixture
def folder(people: Path, tmp_path: Path) -> Path:
    """A copy of the store and its findings, without any review."""
    return Path(shutil.copytree(people, tmp_path / "people"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def review(folder: Path, clock: Clock) -> Review:
    return open_review(folder, clock)
