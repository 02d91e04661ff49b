"""Sampled pairs of a set, against all pairs."""

import numpy as np
import pytest

from distill.evaluation import sampled_pairs
from distill.evaluation.curves import area_under_roc, equal_error_rate
from distill.evaluation.evaluate_sets import score_all
from distill.evaluation.sampled_pairs import sampled_scores
from tests.distill.evaluation.features_of_people import unit_features
from tests.memory import traced_memory


def genuine_of(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    left, right = np.triu_indices(len(labels), 1)
    same = labels[left] == labels[right]
    return np.sort(np.einsum("nd,nd->n", features[left[same]], features[right[same]]))[::-1]


@pytest.mark.parametrize("seed", range(3))
def test_few_genuine_pairs_are_all_used(seed):
    features, labels = unit_features(90, 13, seed)
    scores = sampled_scores(features, labels)
    np.testing.assert_allclose(scores.genuine, genuine_of(features, labels), atol=1e-6)


def test_many_genuine_pairs_are_sampled_without_repeats(monkeypatch):
    monkeypatch.setattr(sampled_pairs, "MOST_GENUINE", 500)
    features, labels = unit_features(300, 5, 0)
    scores = sampled_scores(features, labels)
    known = genuine_of(features, labels)
    assert 400 < len(scores.genuine) <= 500
    assert len(np.unique(scores.genuine)) > 0.99 * len(scores.genuine)
    assert np.quantile(scores.genuine, 0.5) == pytest.approx(np.quantile(known, 0.5), abs=0.05)


def test_sampled_impostors_represent_all_impostors():
    features, labels = unit_features(300, 20, 0)
    scores = sampled_scores(features, labels)
    assert (scores.left != scores.right).all()
    left, right = np.triu_indices(300, 1)
    same = labels[left] == labels[right]
    cosines = np.einsum("nd,nd->n", features[left], features[right])
    area = area_under_roc(scores.genuine, scores.impostors)
    assert area == pytest.approx(area_under_roc(cosines[same], cosines[~same]), abs=0.01)
    error = equal_error_rate(scores.genuine, scores.impostors)
    assert error == pytest.approx(equal_error_rate(cosines[same], cosines[~same]), abs=0.01)


def test_a_sample_of_many_pairs_takes_little_memory():
    features, labels = unit_features(6000, 1, 0)
    with traced_memory() as memory:
        sampled_scores(features, labels)
    assert memory.peak < 16 << 20  # its 18 million pairs would take 144 MB


def test_a_sample_without_impostors_gives_no_interval(monkeypatch):
    monkeypatch.setattr(sampled_pairs, "MOST_IMPOSTORS", 1)
    labels = np.array([0] * 99 + [1])
    features = np.eye(4, dtype=np.float32)[labels]
    report = score_all(features, labels)
    assert report["auc"] == pytest.approx(1, abs=1e-4)
    assert "auc_interval" not in report


@pytest.mark.parametrize("labels", [[0, 0], [0, 1], [3]])
def test_sets_with_one_kind_of_pair_give_that_kind(labels):
    features = np.eye(4, dtype=np.float32)[: len(labels)]
    scores = sampled_scores(features, np.array(labels))
    assert len(scores.genuine) == (labels == [0, 0])
    assert bool(len(scores.impostors)) == (labels == [0, 1])
