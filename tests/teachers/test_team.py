"""Ranks of several machines fill a cache: only the first writes, and sees every error."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from small_teacher import make_teacher, some_rows
from test_embeddings import computed

from curation.errors import UserError
from distill.signals import Stopped
from teachers import embeddings
from teachers.embeddings import cache_digest, cache_embeddings
from teachers.ensemble import Ensemble

RANKS = 3


@pytest.fixture(autouse=True)
def small_claims(monkeypatch):
    monkeypatch.setattr(embeddings, "CLAIM", 5)


class Threads:
    """The ranks of a team as threads, which share only what they exchange."""

    def __init__(self):
        self.barrier = threading.Barrier(RANKS, timeout=60)
        self.given = [None] * RANKS


class ThreadRank:
    ranks = RANKS

    def __init__(self, threads, rank):
        self.threads, self.rank = threads, rank

    def from_first(self, value):
        return self._exchanged(value)[0]

    def to_first(self, value):
        values = self._exchanged(value)
        return values if self.rank == 0 else None

    def _exchanged(self, value):
        self.threads.given[self.rank] = value
        self.threads.barrier.wait()
        values = list(self.threads.given)
        self.threads.barrier.wait()
        return values


class Counted:
    """A teacher that counts its images, and may fail."""

    def __init__(self, teacher, fails=False):
        self.teacher, self.fails, self.images = teacher, fails, 0

    def __getattr__(self, name):
        return getattr(self.teacher, name)

    def embed(self, pixels):
        if self.fails:
            raise UserError("the third machine has no memory")
        self.images += len(pixels)
        return self.teacher.embed(pixels)


def fill(teachers, images, root, progress=None):
    """The cache as each rank sees it, or the error it raised."""
    threads = Threads()

    def of_rank(rank):
        told = progress if rank == 0 else None
        try:
            return cache_embeddings(teachers[rank], images, root, told, ThreadRank(threads, rank))
        except Exception as error:
            return error

    with ThreadPoolExecutor(RANKS) as pool:
        return list(pool.map(of_rank, range(RANKS)))


def test_a_team_makes_the_cache_of_one_process(drawn_store, tmp_path):
    teachers = [Counted(make_teacher()) for _ in range(RANKS)]
    told = []
    caches = fill(teachers, drawn_store, tmp_path / "team", lambda *done: told.append(done))
    alone = cache_embeddings(make_teacher(), drawn_store, tmp_path / "alone")
    for cache in caches:
        np.testing.assert_allclose(cache.unit, alone.unit, atol=1e-3)
        np.testing.assert_allclose(cache.norm, alone.norm, rtol=1e-4)
    assert sum(each.images for each in teachers) == 2 * len(drawn_store)
    assert all(each.images for each in teachers), "every rank has a share"
    assert told[-1] == (len(drawn_store), len(drawn_store))


def test_only_missing_rows_of_a_view_are_embedded(drawn_store, tmp_path):
    rows = [0, 1, 7, 8, 20, 40]
    few = some_rows(drawn_store, tmp_path / "few.view", rows)
    teacher = make_teacher()
    cache_embeddings(teacher, few, tmp_path / "cache")
    teachers = [Counted(teacher) for _ in range(RANKS)]
    fill(teachers, few, tmp_path / "cache")
    assert sum(each.images for each in teachers) == 0
    caches = fill(teachers, drawn_store, tmp_path / "cache")
    assert sum(each.images for each in teachers) == 2 * (len(drawn_store) - len(rows))
    assert len(computed(caches[2])) == len(drawn_store)


def test_an_ensemble_is_put_together_from_its_members(drawn_store, tmp_path):
    members = [make_teacher(0), make_teacher(1)]
    caches = fill([Ensemble(members, "concatenate")] * RANKS, drawn_store, tmp_path / "team")
    alone = cache_embeddings(Ensemble(members, "concatenate"), drawn_store, tmp_path / "alone")
    np.testing.assert_allclose(caches[1].unit, alone.unit, atol=1e-3)


def test_the_fault_of_one_rank_is_raised_on_all(drawn_store, tmp_path):
    teacher = make_teacher()
    teachers = [Counted(teacher, fails=rank == 2) for rank in range(RANKS)]
    for error in fill(teachers, drawn_store, tmp_path):
        assert isinstance(error, UserError)
        assert "the third machine has no memory" in str(error)


def test_a_stop_ends_all_and_keeps_finished_work(drawn_store, tmp_path):
    teacher = make_teacher()

    def stop(done, total):
        if done:
            raise Stopped

    for error in fill([teacher] * RANKS, drawn_store, tmp_path, stop):
        assert isinstance(error, Stopped)
    folder = tmp_path / cache_digest(teacher, drawn_store)
    done = len(computed(embeddings.EmbeddingCache(folder)))
    assert 0 < done < len(drawn_store)
    teachers = [Counted(teacher) for _ in range(RANKS)]
    fill(teachers, drawn_store, tmp_path)
    assert sum(each.images for each in teachers) == 2 * (len(drawn_store) - done)
