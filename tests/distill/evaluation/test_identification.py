"""One-to-many measures, against loops over every probe."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import UserError
from distill.evaluation.identification import (
    Searches,
    among_distractors,
    closed_set,
    open_set,
    search,
)
from tests.distill.evaluation.features_of_people import tied_features, unit_features


def slow_ranks(probes, labels, gallery, gallery_labels) -> list[int]:
    """The rank of the best mate of each mated probe; among equal scores, the mate is last."""
    ranks = []
    for feature, label in zip(probes, labels, strict=True):
        scores, same = gallery @ feature, gallery_labels == label
        if label >= 0 and same.any():
            ranks.append(1 + int(np.sum(scores[~same] >= scores[same].max())))
    return ranks


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), tied=st.booleans(), tile=st.sampled_from([7, 500]))
def test_ranks_match_a_loop(seed: int, tied: bool, tile: int):
    draw = tied_features if tied else unit_features
    probes, labels = draw(40, 12, seed)
    gallery, gallery_labels = draw(60, 15, seed + 1)
    gallery_labels = np.where(gallery_labels > 12, -1, gallery_labels)
    if not np.isin(labels, gallery_labels).any():
        return
    ranks = np.array(slow_ranks(probes, labels, gallery, gallery_labels))
    report = closed_set(search(probes, labels, gallery, gallery_labels, tile=tile))
    assert report["probes"] == len(ranks)
    for rank in (1, 5, 10, 20):
        assert report["ranks"][str(rank)]["rate"] == pytest.approx(np.mean(ranks <= rank))


def test_open_set_identification_matches_a_loop():
    probes, labels = unit_features(1200, 80, 0, spread=0.5)
    gallery, gallery_labels = unit_features(300, 80, 0, spread=0.5)
    enrolled = gallery_labels < 50
    gallery, gallery_labels = gallery[enrolled], gallery_labels[enrolled]
    searches = search(probes, labels, gallery, gallery_labels)
    report = open_set(searches)
    scores = probes @ gallery.T
    same = labels[:, None] == gallery_labels[None]
    mated = same.any(axis=1)
    strangers = -np.sort(-scores[~mated].max(axis=1))
    mates = np.where(same, scores, -np.inf).max(axis=1)[mated]
    assert (report["mated"], report["unmated"]) == (mated.sum(), (~mated).sum())
    threshold = strangers[len(strangers) // 10]
    found = report["fnir_at_fpir"]["1e-1"]
    assert found["threshold"] == pytest.approx(threshold, abs=1e-6)
    assert found["fnir"] == pytest.approx(np.mean(mates <= threshold))
    assert found["interval"][0] <= found["fnir"] <= found["interval"][1]
    assert report["fnir_at_fpir"]["1e-3"]["fnir"] is None
    assert "10,000 needed" in report["fnir_at_fpir"]["1e-3"]["reason"]


def test_every_image_in_turn_is_the_only_mate_among_distractors():
    features, labels = unit_features(60, 12, 0)
    distractors, _ = unit_features(500, 500, 1)
    report = among_distractors(features, labels, distractors, (10, 100), tile=64)
    assert list(report["distractors"]) == ["10", "100", "500"]
    for size in (10, 100, 500):
        found = []
        for i in range(60):
            for j in range(60):
                if i != j and labels[i] == labels[j]:
                    others = distractors[:size] @ features[i]
                    found.append(1 + int(np.sum(others >= features[i] @ features[j])))
        ranks = report["distractors"][str(size)]
        assert report["probes"] == len(found)
        for rank in (1, 5, 10):
            assert ranks[str(rank)]["rate"] == pytest.approx(np.mean(np.array(found) <= rank))


def test_probes_without_mates_are_refused():
    features, labels = unit_features(20, 20, 0)
    with pytest.raises(UserError, match="no probe has a mate"):
        closed_set(search(features, labels, features, labels + 100))
    with pytest.raises(UserError, match="no identity of the probes has two images"):
        among_distractors(features, np.arange(20), features, (10,))


def test_probes_without_a_label_are_unmated():
    features, labels = unit_features(400, 10, 0)
    searches = search(features, np.full(400, -1), features, labels)
    report = open_set(searches)
    assert (report["mated"], report["unmated"]) == (0, 400)
    assert report["fnir_at_fpir"]["1e-1"]["reason"] == "no probe has a mate in the gallery"


def threshold_width(labels_of_strangers: np.ndarray) -> float:
    """The width of the threshold's interval, with 200 mated probes and 400 strangers."""
    random = np.random.default_rng(0)
    labels = np.concatenate([np.arange(200) // 4, labels_of_strangers])
    mates = np.concatenate([random.uniform(0.5, 1, 200), np.full(400, -np.inf)])
    nearest = random.uniform(0, 0.8, (600, 1))
    report = open_set(Searches(labels, mates, nearest), (1,))
    low, high = report["fnir_at_fpir"]["1e-1"]["threshold_interval"]
    return high - low


def test_strangers_without_a_label_are_one_person_each():
    unknown = threshold_width(np.full(400, -1))
    assert unknown == threshold_width(100 + np.arange(400)) > 0
    assert threshold_width(np.full(400, 100)) < unknown / 10  # one person varies with itself
