"""The ten-fold protocol, against a plain transcription of its rules in loops."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import UserError
from distill.evaluation.verification import squared_distances, ten_fold, why_no_folds


def fold_sizes(pairs: int) -> list[int]:
    return [pairs // 10 + (1 if fold < pairs % 10 else 0) for fold in range(10)]


def folds(pairs: int) -> list[list[int]]:
    result, start = [], 0
    for size in fold_sizes(pairs):
        result.append(list(range(start, start + size)))
        start += size
    return result


def slow_accuracy(distances: list[float], same: list[bool]) -> tuple[list[float], list[float]]:
    """The accuracy and threshold of each fold."""
    accuracies, chosen = [], []
    for test in folds(len(distances)):
        train = [i for i in range(len(distances)) if i not in test]
        best, best_threshold = -1, 0.0
        for step in range(400):
            threshold = np.arange(0, 4, 0.01)[step]
            correct = sum((distances[i] < threshold) == same[i] for i in train)
            if correct > best:
                best, best_threshold = correct, threshold
        correct = sum((distances[i] < best_threshold) == same[i] for i in test)
        accuracies.append(correct / len(test))
        chosen.append(best_threshold)
    return accuracies, chosen


def share_below(distances: list[float], threshold: float) -> float:
    return sum(d < threshold for d in distances) / len(distances)


def slow_val(distances: list[float], same: list[bool]) -> tuple[list[float], list[float]]:
    """VAL and FAR of each fold; every fold must hold pairs of both kinds."""
    grid = np.arange(0, 4, 0.001)
    vals, fars = [], []
    for test in folds(len(distances)):
        others = [d for i, d in enumerate(distances) if i not in test and not same[i]]
        rates = [share_below(others, t) for t in grid]
        threshold = 0.0
        if max(rates) >= 1e-3:
            last = max(i for i, rate in enumerate(rates) if rate <= 1e-3)
            threshold = grid[last]
            if rates[last] < 1e-3:
                part = (1e-3 - rates[last]) / (rates[last + 1] - rates[last])
                threshold += part * (grid[last + 1] - grid[last])
        vals.append(share_below([distances[i] for i in test if same[i]], threshold))
        fars.append(share_below([distances[i] for i in test if not same[i]], threshold))
    return vals, fars


def drawn_pairs(count: int, seed: int, spread: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping distances of alternating genuine and impostor pairs."""
    generator = np.random.default_rng(seed)
    same = np.arange(count) % 2 == 0
    centres = np.where(same, 1.0, 2.0)
    return np.clip(generator.normal(centres, spread), 0, 3.99), same


@settings(max_examples=15, deadline=None)
@given(count=st.integers(20, 90), seed=st.integers(0, 10**6))
def test_accuracy_and_threshold_match_the_slow_reference(count: int, seed: int):
    distances, same = drawn_pairs(count, seed)
    accuracies, thresholds = slow_accuracy(distances.tolist(), same.tolist())
    found = ten_fold(distances, same)
    assert found.accuracy == pytest.approx(np.mean(accuracies), abs=1e-12)
    assert found.std == pytest.approx(np.std(accuracies), abs=1e-12)
    assert found.threshold == pytest.approx(np.mean(thresholds), abs=1e-12)


@pytest.mark.parametrize(("count", "seed", "spread"), [(40, 0, 0.5), (63, 1, 0.3), (80, 2, 0.05)])
def test_val_and_far_match_the_slow_reference(count: int, seed: int, spread: float):
    distances, same = drawn_pairs(count, seed, spread)
    vals, fars = slow_val(distances.tolist(), same.tolist())
    found = ten_fold(distances, same)
    assert found.val == pytest.approx(np.mean(vals), abs=1e-12)
    assert found.val_std == pytest.approx(np.std(vals), abs=1e-12)
    assert found.far == pytest.approx(np.mean(fars), abs=1e-12)


def test_a_separable_set_scores_one_at_the_first_threshold():
    distances = np.array([0.5, 2.5] * 10)
    found = ten_fold(distances, distances < 1)
    # The distance must be below the threshold: 0.50 does not accept 0.5, 0.51 does.
    assert found.accuracy == 1.0
    assert found.std == 0.0
    assert found.threshold == pytest.approx(0.51)
    assert found.val == 1.0


def test_val_is_measured_where_one_impostor_in_a_thousand_passes():
    impostors = 1.0005 + 0.001 * np.arange(1000)  # the first one is below 1.001 of the grid
    fold = np.concatenate([[1.0003, 1.0012], impostors])
    found = ten_fold(np.tile(fold, 10), np.tile(np.arange(len(fold)) < 2, 10))
    assert found.far == pytest.approx(1e-3)
    assert found.val == 0.5


GENUINE_LAST = np.arange(40) >= 20
MIXED = np.arange(40) % 2 == 0


@pytest.mark.parametrize(
    ("same", "reason"),
    [
        (MIXED[:5], "3 genuine pairs are too few for ten folds"),
        (MIXED[:19], "9 impostor pairs are too few for ten folds"),
        (np.ones(600, bool), "0 impostor pairs are too few"),
        (np.zeros(600, bool), "0 genuine pairs are too few"),
        (np.arange(600) >= 9, "9 impostor pairs are too few"),
        (GENUINE_LAST, "pairs 0 to 3, one of the ten folds, are all impostor; order the pairs"),
        (np.concatenate([MIXED, np.ones(4, bool)]), "pairs 40 to 43, .* are all genuine"),
    ],
)
def test_pairs_whose_folds_lack_a_kind_are_refused(same: np.ndarray, reason: str):
    assert re.search(reason, why_no_folds(same))
    with pytest.raises(UserError, match=reason):
        ten_fold(np.where(same, 0.5, 2.5), same)


def test_one_pair_of_each_kind_in_every_fold_is_enough():
    assert why_no_folds(MIXED[:20]) is None
    assert why_no_folds(MIXED) is None


def test_squared_distances_of_unit_vectors_by_hand():
    left = np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    right = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    np.testing.assert_array_equal(squared_distances(left, right), [0, 2, 4])
