"""TAR at FAR over explicit pairs and over all pairs, against plain loops."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.evaluation import all_pairs as all_pairs_module
from distill.evaluation.all_pairs import HighestScores, all_pairs
from distill.evaluation.rates import pair_rates, plan_rates


def slow_rate(genuine: list[float], impostors: list[float], exponent: int) -> tuple[float, float]:
    """(TAR, threshold): the lowest impostor score above which few enough impostors lie."""
    lowest = max(impostors)
    for threshold in sorted(set(impostors), reverse=True):
        accepted = np.count_nonzero(np.array(impostors) > threshold)
        if accepted * 10**exponent > len(impostors):
            break
        lowest = threshold
    return sum(score > lowest for score in genuine) / len(genuine), lowest


def unit_features(images: int, identities: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features around a centre for each identity, in no order, not all identities alike."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, identities, images)
    features = generator.normal(size=(identities, 8))[labels] + generator.normal(size=(images, 8))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), labels


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), ties=st.booleans())
def test_pair_rates_are_the_slow_ones(seed: int, ties: bool):
    generator = np.random.default_rng(seed)
    same = generator.random(1600) < 0.3
    cosines = np.clip(generator.normal(np.where(same, 0.5, 0), 0.3), -1, 1)
    cosines = np.round(cosines, 1) if ties else cosines
    report = pair_rates(cosines, same)["1e-2"]
    tar, threshold = slow_rate(cosines[same].tolist(), cosines[~same].tolist(), 2)
    assert report == {"tar": pytest.approx(tar), "cosine_threshold": threshold}


def test_a_far_is_measured_from_ten_allowed_impostors_on():
    assert plan_rates(5, 1000)[0].reason is None
    assert plan_rates(5, 999)[0].reason == ("insufficient pairs: 999 impostor pairs, 1000 needed")
    assert plan_rates(0, 1000)[0].reason == "insufficient pairs: no genuine pair"


def test_too_many_impostor_scores_to_keep_are_said_to_be():
    rates = {rate.name: rate for rate in plan_rates(5, 10**12, kept=5 * 10**7)}
    assert rates["1e-2"].reason.startswith("too many pairs")
    assert rates["1e-5"].reason is None
    assert rates["1e-8"].allowed == 10_000


def test_lfw_has_too_few_impostors_for_1e_3():
    same = np.arange(6000) % 2 == 0
    report = pair_rates(np.where(same, 0.9, 0.1), same)
    assert report["1e-2"] == {"tar": 1.0, "cosine_threshold": 0.1}
    assert report["1e-3"]["tar"] is None
    assert "insufficient pairs" in report["1e-3"]["reason"]


@pytest.mark.parametrize("tile", [7, 64, 4096])
@pytest.mark.parametrize(("identities", "seed"), [(3, 0), (20, 1), (150, 2)])
def test_all_pairs_are_the_slow_ones_whatever_the_tile(tile: int, identities: int, seed: int):
    features, labels = unit_features(170, identities, seed)
    pairs = list(combinations(range(len(labels)), 2))
    cosines = (features.astype(np.float64) @ features.T.astype(np.float64)).astype(np.float32)
    genuine = [float(cosines[i, j]) for i, j in pairs if labels[i] == labels[j]]
    impostors = [float(cosines[i, j]) for i, j in pairs if labels[i] != labels[j]]

    report = all_pairs(features, labels, tile=tile)

    assert report["images"] == 170
    assert report["identities"] == len(set(labels.tolist()))
    assert report["genuine"] == len(genuine)
    assert report["impostors"] == len(impostors)
    tar, threshold = slow_rate(genuine, impostors, 2)
    # Products in another order differ in the last bit, by which one pair may change sides.
    assert report["tar_at_far"]["1e-2"]["tar"] == pytest.approx(tar, abs=1.01 / len(genuine))
    assert report["tar_at_far"]["1e-2"]["cosine_threshold"] == pytest.approx(threshold, abs=1e-6)
    assert report["tar_at_far"]["1e-4"]["tar"] is None


def test_all_pairs_of_two_identities_by_hand():
    """Two people at right angles, 40 images each, and one of the first like the second."""
    features = np.repeat(np.eye(2, dtype=np.float32), [40, 41], axis=0)
    labels = np.array([0] * 40 + [1] * 40 + [0])
    report = all_pairs(features, labels)
    assert (report["genuine"], report["impostors"]) == (41 * 40 // 2 + 40 * 39 // 2, 41 * 40)
    # The last image makes 40 impostor pairs of cosine 1, more than the 16 that 1e-2 allows.
    assert report["tar_at_far"]["1e-2"] == {"tar": 0.0, "cosine_threshold": 1.0}


def test_all_pairs_of_one_identity_have_no_rate():
    report = all_pairs(np.ones((5, 1), np.float32), np.zeros(5, int))
    assert report["impostors"] == 0
    assert all(rate["tar"] is None for rate in report["tar_at_far"].values())


def test_progress_ends_with_all_images():
    features, labels = unit_features(60, 20, 0)
    seen: list[tuple[int, int]] = []
    all_pairs(features, labels, lambda done, total: seen.append((done, total)), tile=16)
    assert seen[-1] == (60, 60)
    assert seen == sorted(seen)


def test_memory_holds_a_limited_number_of_impostor_scores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(all_pairs_module, "MAXIMUM_KEPT", 100)
    features, labels = unit_features(170, 20, 0)
    report = all_pairs(features, labels)
    assert report["tar_at_far"]["1e-2"]["reason"].startswith("too many pairs")


@settings(max_examples=50, deadline=None)
@given(
    batches=st.lists(st.lists(st.floats(-1, 1, width=32), max_size=20), max_size=10),
    count=st.integers(0, 30),
)
def test_the_highest_scores_are_those_of_a_sort(batches: list[list[float]], count: int):
    highest = HighestScores(count)
    for batch in batches:
        highest.add(torch.tensor([score for score in batch if score > highest.floor]))
    expected = sorted((score for batch in batches for score in batch), reverse=True)[:count]
    assert highest.descending().tolist() == expected
