"""Nearest neighbours: exact by exhaustive search, nearly all of them otherwise."""

import numpy as np
import pytest
from simulated_people import people

from curation import neighbours
from curation.neighbours import Neighbours, blocks, choose_kind, normalised


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Twelve hundred unit vectors of 300 people."""
    return people([4] * 300, dimension=16)[0]


def slow_search(
    queries: np.ndarray, vectors: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    cosines = queries @ vectors.T
    order = np.argsort(-cosines, axis=1)[:, :count]
    return np.take_along_axis(cosines, order, axis=1), order


def test_a_flat_index_compares_all(vectors: np.ndarray) -> None:
    index = Neighbours(vectors)
    queries = people([1] * 50, seed=1, dimension=16)[0]
    similarities, indices = index.search(queries, 5)
    slow_similarities, slow_indices = slow_search(queries, vectors, 5)
    np.testing.assert_allclose(similarities, slow_similarities, atol=1e-5)
    np.testing.assert_array_equal(indices, slow_indices)
    assert (index.kind, index.recall) == ("flat", 1.0)
    assert "exact" in str(index)


def test_queries_are_answered_in_blocks(
    vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Neighbours(vectors)
    whole = index.search(vectors[:21], 3)
    monkeypatch.setattr(neighbours, "_BLOCK", 8)
    seen: list[tuple[int, int]] = []
    parts = index.search(vectors[:21], 3, lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(parts[1], whole[1])
    assert seen == [(8, 21), (16, 21), (21, 21)]


def test_no_more_neighbours_than_vectors() -> None:
    similarities, indices = Neighbours(np.eye(2, dtype=np.float32)).search(np.eye(2), 5)
    np.testing.assert_array_equal(indices, [[0, 1, -1, -1, -1], [1, 0, -1, -1, -1]])
    np.testing.assert_array_equal(similarities, [[1, 0, -1, -1, -1], [1, 0, -1, -1, -1]])


def test_no_queries_give_no_results(vectors: np.ndarray) -> None:
    similarities, indices = Neighbours(vectors).search(vectors[:0], 3)
    assert similarities.shape == indices.shape == (0, 3)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_larger_indices_report_their_recall(kind: neighbours.Kind, vectors: np.ndarray) -> None:
    index = Neighbours(vectors, kind)
    found = index.search(vectors, 1)[1][:, 0]
    assert (found == np.arange(len(vectors))).mean() > 0.9
    assert 0.5 < index.recall <= 1
    assert f"recall@1 {index.recall:.3f}" in str(index)


def test_the_recall_is_relative_to_exhaustive_search(vectors: np.ndarray) -> None:
    """Only one list of many is searched, so the reported recall is low."""
    index = Neighbours(vectors, "ivf")
    index._index.nprobe = 1
    poor = index._measure_recall(vectors)
    assert poor < index.recall
    assert Neighbours(vectors, "flat")._measure_recall(vectors) == 1.0


@pytest.mark.parametrize(
    ("size", "on_gpu", "kind"),
    [
        (1, False, "flat"),
        (300_000, False, "flat"),
        (300_001, False, "hnsw"),
        (2_000_000, False, "hnsw"),
        (2_000_001, False, "ivf"),
        (2_000_000, True, "flat"),
        (2_000_001, True, "ivf"),
    ],
)
def test_the_index_is_chosen_by_size(size: int, on_gpu: bool, kind: str) -> None:
    assert choose_kind(size, on_gpu) == kind


def test_vectors_get_length_one_and_zero_stays_zero() -> None:
    found = normalised(np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize(("length", "size"), [(0, 3), (1, 3), (3, 3), (4, 3), (9, 3), (10, 3)])
def test_blocks_cover_everything_once(length: int, size: int) -> None:
    parts = [np.arange(length)[block] for block in blocks(length, size)]
    assert all(1 <= len(part) <= size for part in parts)
    np.testing.assert_array_equal(np.concatenate([[], *parts]), np.arange(length))
