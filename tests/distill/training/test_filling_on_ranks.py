"""Ranks and other processes fill the caches of a teacher's views together, killed and resumed."""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rank_filling
from rank_filling import CLAIM, SOME, VIEWS, fill, meet

from teachers import embeddings
from teachers.cache_files import NORM, ROWS, UNIT
from teachers.embedding_cache import EmbeddingCache

SCRIPT = Path(rank_filling.__file__)
EVERY = 1 + VIEWS.augmented
"""Caches: of the images and their mirror images, and of each augmented view"""


@pytest.fixture(autouse=True)
def small_claims(monkeypatch):
    monkeypatch.setattr(embeddings, "CLAIM", CLAIM)


@pytest.fixture(scope="module")
def alone(drawn_store, tmp_path_factory):
    """The caches that one process fills, and the number of images that it embeds."""
    caches = tmp_path_factory.mktemp("alone")
    return caches, fill(drawn_store, caches)


def opened(caches):
    return [EmbeddingCache(folder) for folder in sorted(caches.iterdir())]


def computed(caches):
    """The number of rows that the caches have, over all views."""
    return sum(int((each.table.entries != 0).sum()) for each in opened(caches))


def assert_equal_bits(caches, expected):
    names = sorted(folder.name for folder in expected.iterdir())
    assert sorted(folder.name for folder in caches.iterdir()) == names
    assert len(names) == EVERY
    for name in names:
        for file in (UNIT, NORM, ROWS):
            ours, theirs = (np.load(each / name / file) for each in (caches, expected))
            assert np.array_equal(ours, theirs), file


def test_a_killed_rank_loses_nothing_and_one_or_two_continue(
    drawn_store, tmp_path, alone, start_two_ranks
):
    caches, whole = tmp_path / "caches", EVERY * len(drawn_store)
    run = (SCRIPT, drawn_store.path, caches, tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        start_two_ranks(*run, AFTER_SOME="die")
    killed = computed(caches)
    assert 0 < killed < whole

    def stop(images):
        if images > len(drawn_store):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(drawn_store, caches, stop)
    assert killed < computed(caches) < whole
    start_two_ranks(*run)
    assert_equal_bits(caches, alone[0])


def test_two_jobs_fill_the_same_caches_at_once(drawn_store, tmp_path, alone, start_two_ranks):
    """One has two ranks, the other is this process: no image is embedded twice."""
    caches, (expected, images) = tmp_path / "caches", alone
    run = (SCRIPT, drawn_store.path, caches, tmp_path)
    with ThreadPoolExecutor(1) as job:
        ranks = job.submit(start_two_ranks, *run, AFTER_SOME="meet")
        ours = fill(drawn_store, caches, lambda done: meet(tmp_path, 2) if done == SOME else None)
        ranks.result()
    theirs = [int((tmp_path / f"embedded-{rank}").read_text()) for rank in (0, 1)]
    assert all((ours, *theirs))
    assert ours + sum(theirs) == images
    assert_equal_bits(caches, expected)
