"""TAR at FAR over explicit pairs and over all pairs, against plain loops."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import UserError
from distill.evaluation import all_pairs as all_pairs_module
from distill.evaluation.all_pairs import all_pairs, cross_pairs
from distill.evaluation.rates import pair_rates, plan_rates
from tests.distill.evaluation.features_of_people import tied_features, unit_features


def slow_rate(genuine: list[float], impostors: list[float], exponent: int) -> tuple[float, float]:
    """(TAR, threshold): the lowest impostor score with few enough impostors above it."""
    lowest = max(impostors)
    for threshold in sorted(set(impostors), reverse=True):
        accepted = np.count_nonzero(np.array(impostors) > threshold)
        if accepted * 10**exponent > len(impostors):
            break
        lowest = threshold
    return sum(score > lowest for score in genuine) / len(genuine), lowest


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), ties=st.booleans())
def test_pair_rates_match_the_slow_reference(seed: int, ties: bool):
    generator = np.random.default_rng(seed)
    same = generator.random(1600) < 0.3
    cosines = np.clip(generator.normal(np.where(same, 0.5, 0), 0.3), -1, 1)
    cosines = np.round(cosines, 1) if ties else cosines
    report = pair_rates(cosines, same)["1e-2"]
    tar, threshold = slow_rate(cosines[same].tolist(), cosines[~same].tolist(), 2)
    assert report == {"tar": pytest.approx(tar), "cosine_threshold": threshold}


def test_a_far_needs_ten_allowed_impostors():
    assert plan_rates(5, 1000)[0].reason is None
    assert plan_rates(5, 999)[0].reason == ("insufficient pairs: 999 impostor pairs, 1,000 needed")
    assert plan_rates(0, 1000)[0].reason == "insufficient pairs: no genuine pair"


def test_too_many_impostor_scores_to_keep_are_reported():
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
def test_all_pairs_match_the_slow_reference_for_any_tile(tile: int, identities: int, seed: int):
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
    # Products in another order differ in the last bit, which can move a pair across a threshold.
    assert report["tar_at_far"]["1e-2"]["tar"] == pytest.approx(tar, abs=1.01 / len(genuine))
    assert report["tar_at_far"]["1e-2"]["cosine_threshold"] == pytest.approx(threshold, abs=1e-6)
    assert report["tar_at_far"]["1e-4"]["tar"] is None


def test_all_pairs_of_two_identities_by_hand():
    """Two orthogonal people with 40 images each, and one image of the first like the second."""
    features = np.repeat(np.eye(2, dtype=np.float32), [40, 41], axis=0)
    labels = np.array([0] * 40 + [1] * 40 + [0])
    report = all_pairs(features, labels, intervals=False)
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


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), tile=st.sampled_from([5, 32, 500]))
def test_probes_and_gallery_match_a_full_sort_with_ties(seed: int, tile: int):
    probes, probe_labels = tied_features(40, 6, seed)
    gallery, gallery_labels = tied_features(90, 9, seed + 1)
    gallery_labels = np.where(
        gallery_labels > 6, -1, gallery_labels
    )  # distractors without identity
    scores = probes @ gallery.T
    same = probe_labels[:, None] == gallery_labels[None]
    report = cross_pairs(probes, probe_labels, gallery, gallery_labels, tile=tile)
    tar, threshold = slow_rate(scores[same].tolist(), scores[~same].tolist(), 2)
    assert (report["genuine"], report["impostors"]) == (same.sum(), (~same).sum())
    assert report["tar_at_far"]["1e-2"]["tar"] == pytest.approx(tar)
    assert report["tar_at_far"]["1e-2"]["cosine_threshold"] == threshold


def test_a_probe_needs_an_identity():
    features, labels = unit_features(20, 4, 0)
    with pytest.raises(UserError, match="probe has no identity"):
        cross_pairs(features, np.full(20, -1), features, labels)


def test_too_many_genuine_pairs_are_counted(monkeypatch: pytest.MonkeyPatch):
    features, labels = unit_features(300, 20, 0)
    held = all_pairs(features, labels)["tar_at_far"]["1e-2"]
    monkeypatch.setattr(all_pairs_module, "MOST_GENUINE", 10)
    counted = all_pairs(features, labels)["tar_at_far"]["1e-2"]
    assert counted == {name: held[name] for name in ("tar", "cosine_threshold")}


def test_the_intervals_contain_the_figures():
    features, labels = unit_features(600, 60, 0)
    rate = all_pairs(features, labels)["tar_at_far"]["1e-2"]
    assert rate["interval"][0] < rate["tar"] < rate["interval"][1]
    assert rate["threshold_interval"][0] < rate["cosine_threshold"] < rate["threshold_interval"][1]
