"""Tiles of scores in NumPy, and in torch as on a GPU: both give the same results."""

import numpy as np
import pytest

from distill.evaluation.score_arrays import CpuArithmetic, GpuArithmetic

BOTH = pytest.mark.parametrize(
    "arithmetic", [CpuArithmetic(8), GpuArithmetic(8, "cpu")], ids=["NumPy", "torch"]
)
LEFT = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
RIGHT = np.random.default_rng(1).standard_normal((7, 3)).astype(np.float32)
SCORES = LEFT @ RIGHT.T


def product_of(arithmetic: CpuArithmetic | GpuArithmetic):
    return arithmetic.product(arithmetic.moved(LEFT), arithmetic.moved(RIGHT))


@BOTH
def test_a_hidden_pair_gives_its_score_and_is_not_found_again(arithmetic):
    scores = product_of(arithmetic)
    mask = np.zeros((5, 7), np.bool_)
    mask[[0, 3], [2, 6]] = True
    np.testing.assert_allclose(scores.hide(mask), SCORES[[0, 3], [2, 6]], rtol=1e-5, atol=1e-7)
    expected = np.where(mask, -np.inf, SCORES)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(scores.best(), expected.max(axis=1), rtol=1e-5, atol=1e-7)


@BOTH
@pytest.mark.parametrize("quantile", [0.2, 0.9, 1.0])
def test_scores_above_a_floor_have_their_positions(arithmetic, quantile: float):
    scores = product_of(arithmetic)
    floor = np.float32(np.quantile(scores.numpy(), quantile))
    hot = np.flatnonzero(scores.best() > floor)
    rows, columns, values = scores.above(hot, floor)
    expected = np.argwhere(scores.numpy() > floor)
    assert np.stack([rows, columns], axis=1).tolist() == expected.tolist()
    assert values.tolist() == scores.numpy()[rows, columns].tolist()


@BOTH
@pytest.mark.parametrize("count", [1, 3, 7, 20])
def test_the_highest_of_some_rows_match_a_sort(arithmetic, count: int):
    scores = product_of(arithmetic)
    found = np.sort(scores.highest(np.array([1, 4]), count), axis=1)
    expected = np.sort(SCORES[[1, 4]], axis=1)[:, -count:]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
