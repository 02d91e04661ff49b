"""Curves of counted scores, against loops and sorts over every pair."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.evaluation.all_pairs import all_pairs
from distill.evaluation.curves import area_under_roc, equal_error_rate
from distill.evaluation.pair_scan import HighestScores, LowestMates
from distill.evaluation.score_arrays import CpuScores, GpuScores, binned
from distill.evaluation.score_counts import BINS, CountedScores, ScoreCounts
from tests.distill.evaluation.features_of_people import tied_features, unit_features


def drawn(pairs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cosines [P] and ``same`` [P] of random pairs."""
    generator = np.random.default_rng(seed)
    same = generator.random(pairs) < 0.3
    cosines = np.clip(generator.normal(np.where(same, 0.5, 0.05), 0.2), -1, 1)
    return cosines.astype(np.float32), same


def listed_counts(cosines: np.ndarray, same: np.ndarray) -> ScoreCounts:
    counts = ScoreCounts()
    counts.add(cosines, same)
    return counts


@pytest.mark.parametrize("arrays", [CpuScores, lambda array: GpuScores(torch.from_numpy(array))])
@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(1 << 24), 1 << 24), min_size=1, max_size=50))
def test_every_score_is_counted_in_its_bin(arrays, numbers):
    scores = (np.array(numbers) / (1 << 24)).astype(np.float32)
    expected = np.floor(scores.astype(np.float64) * (BINS // 2)).astype(int) + BINS // 2 + 1
    found = arrays(scores[None]).binned(BINS)
    np.testing.assert_array_equal(found, np.bincount(expected, minlength=BINS + 2))


@pytest.mark.parametrize("arrays", [CpuScores, lambda array: GpuScores(torch.from_numpy(array))])
def test_scores_that_rounding_moves_beyond_one_are_counted(arrays):
    scores = np.array([[1.0, 1.0000001], [-1.0000001, -np.inf]], np.float32)
    counts = arrays(scores).binned(BINS)
    assert (counts[0], counts[-1], counts.sum()) == (1, 2, 3)


def test_many_scores_are_counted_in_parts(monkeypatch):
    cosines, _ = drawn(10_000)
    whole = binned(cosines, BINS)
    monkeypatch.setattr("distill.evaluation.score_arrays._MOST_COUNTED", 1234)
    np.testing.assert_array_equal(binned(cosines, BINS), whole)


@pytest.mark.parametrize("decimals", [1, 3, 7])
def test_area_and_equal_error_are_within_their_bounds(decimals):
    for seed in range(5):
        cosines, same = drawn(500, seed)
        cosines = np.round(cosines, decimals)
        counts, kinds = listed_counts(cosines, same), (cosines[same], cosines[~same])
        area, error = counts.area_under_roc(), counts.equal_error_rate()
        assert abs(area.value - area_under_roc(*kinds)) <= area.within + 1e-12
        assert abs(error.value - equal_error_rate(*kinds)) <= error.within + 1e-12
        assert area.within < (0.05 if decimals == 1 else 2e-3)


def test_one_bin_with_both_kinds_gives_the_widest_bounds():
    counts = listed_counts(np.full(4, 0.1), np.array([True, True, False, False]))
    assert (counts.area_under_roc().value, counts.area_under_roc().within) == (0.5, 0.5)
    assert counts.equal_error_rate().within == 1


def test_every_point_of_a_curve_is_exact():
    cosines, same = drawn(20_000)
    curve = listed_counts(cosines, same).curve()
    assert 80 < len(curve.far) <= 152
    for threshold, far, tar in zip(curve.thresholds, curve.far, curve.tar, strict=True):
        assert far == pytest.approx(np.mean(cosines[~same] >= threshold), abs=1e-12)
        assert tar == pytest.approx(np.mean(cosines[same] >= threshold), abs=1e-12)
    assert (np.diff(curve.thresholds) > 0).all()
    assert (np.diff(curve.far) <= 0).all()
    assert (np.diff(curve.tar) <= 0).all()
    assert (curve.far[0], curve.tar[0]) == (1, 1)


def test_a_curve_ends_before_nine_false_accepts():
    cosines, same = drawn(20_000)
    counts = listed_counts(cosines, same)
    assert round(counts.curve().far[-1] * (~same).sum()) == 10
    few = listed_counts(cosines[:20], same[:20])
    assert (~same[:20]).sum() > 10
    assert round(few.curve().far[-1] * (~same[:20]).sum()) >= 10
    nine = listed_counts(np.linspace(0, 1, 18), np.arange(18) % 2 == 0)
    assert not len(nine.curve().far)


@pytest.mark.parametrize("tile", [7, 64, 4096])
@pytest.mark.parametrize("drawing", [unit_features, tied_features])
def test_all_pairs_are_counted_in_the_scan_that_verifies_them(tile, drawing):
    features, labels = drawing(120, 10, 0)
    counted = CountedScores()
    report = all_pairs(features, labels, tile=tile, collectors=[counted])
    counts = counted.counts
    assert (counts.genuine.sum(), counts.impostors.sum()) == (
        report["genuine"],
        report["impostors"],
    )
    left, right = np.triu_indices(120, 1)
    same = labels[left] == labels[right]
    scores = np.einsum("nd,nd->n", features[left], features[right])
    area = counts.area_under_roc()
    assert area.value == pytest.approx(area_under_roc(scores[same], scores[~same]), abs=1e-5)


def test_too_few_pairs_for_a_rate_are_still_counted():
    features, labels = unit_features(12, 4, 0)
    counted, highest, lowest = CountedScores(), HighestScores(3), LowestMates(3)
    report = all_pairs(features, labels, collectors=[counted, highest, lowest])
    assert report["tar_at_far"]["1e-2"]["tar"] is None
    assert counted.counts.impostors.sum() == report["impostors"]
    assert len(highest.descending().scores) == 3
    assert len(lowest.ascending().scores) == 3
