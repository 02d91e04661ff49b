"""All pairs, tile by tile, against whole matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.evaluation.pair_scan import HighestScores, LowestMates, Nearest, PairScan
from tests.distill.evaluation.features_of_people import tied_features, unit_features


def whole(scan: PairScan) -> np.ndarray:
    """Scores [P, G] assembled from the tiles; NaN where there was no tile."""
    scores = np.full((len(scan.probe_order), len(scan.gallery_order)), np.nan, np.float32)
    for tile in scan.tiles():
        assert np.isnan(scores[tile.rows, tile.columns]).all()
        scores[tile.rows, tile.columns] = tile.scores.numpy()
    return scores


@pytest.mark.parametrize("cuts", [(), (1, 30, 64, 1000)])
@pytest.mark.parametrize("tile", [7, 64, 4096])
def test_tiles_cover_every_pair_of_probe_and_gallery_once(tile: int, cuts: tuple[int, ...]):
    probes, labels = unit_features(50, 10, 0)
    gallery, gallery_labels = unit_features(120, 30, 1)
    gallery_labels = np.where(gallery_labels > 20, -1, gallery_labels)
    scan = PairScan(probes, labels, gallery, gallery_labels, tile, cuts)
    expected = probes[scan.probe_order] @ gallery[scan.gallery_order].T
    same = labels[scan.probe_order, None] == gallery_labels[scan.gallery_order][None]
    np.testing.assert_allclose(whole(scan), np.where(same, -np.inf, expected), atol=1e-6)


@pytest.mark.parametrize("tile", [7, 64, 4096])
def test_tiles_of_one_set_cover_every_pair_of_two_images_once(tile: int):
    features, labels = unit_features(100, 12, 0)
    scan = PairScan(features, labels, tile=tile)
    scores = whole(scan)
    left, right = np.triu_indices(100, 1)
    ordered = labels[scan.probe_order]
    expected = (features[scan.probe_order] @ features[scan.probe_order].T)[left, right]
    expected = np.where(ordered[left] == ordered[right], -np.inf, expected)
    np.testing.assert_allclose(scores[left, right], expected, atol=1e-6)
    others = scores[np.tril_indices(100)]
    assert (np.isnan(others) | np.isneginf(others)).all()


def test_distractors_keep_their_order():
    probes, labels = unit_features(10, 3, 0)
    gallery, gallery_labels = unit_features(30, 6, 1)
    scan = PairScan(probes, labels, gallery, gallery_labels)
    distractors = scan.gallery_order[scan.mated :]
    assert not np.isin(gallery_labels[distractors], labels).any()
    assert (np.diff(distractors) > 0).all()


def test_an_unlabelled_image_is_not_a_mate():
    features = np.ones((3, 1), np.float32)
    labels = np.array([-1, -1, 0])
    scan = PairScan(features, labels, features, labels)
    pairs = sum(len(tile.mates) for tile in scan.mated_tiles() if tile.mates is not None)
    assert pairs == 1


@pytest.mark.parametrize("tile", [7, 64])
def test_mated_tiles_have_all_scores_of_mates(tile: int):
    features, labels = unit_features(100, 12, 0)
    scan = PairScan(features, labels, tile=tile)
    found = [t.mate_scores for t in scan.mated_tiles() if t.mate_scores is not None]
    left, right = np.triu_indices(100, 1)
    same = labels[left] == labels[right]
    expected = (features @ features.T)[left, right][same]
    np.testing.assert_allclose(np.sort(np.concatenate(found)), np.sort(expected), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 60), tile=st.sampled_from([3, 16, 500]))
def test_the_highest_scores_match_a_sort_with_ties(seed: int, count: int, tile: int):
    probes, labels = tied_features(20, 5, seed)
    gallery, gallery_labels = tied_features(31, 7, seed + 1)
    scan = PairScan(probes, labels, gallery, gallery_labels, tile)
    highest = HighestScores(count)
    for each in scan.tiles():
        highest.add(each)
    found = highest.descending()
    scores = probes[scan.probe_order] @ gallery[scan.gallery_order].T
    other = scan.probe_labels[:, None] != scan.gallery_labels[None]
    assert found.scores.tolist() == sorted(scores[other].tolist(), reverse=True)[:count]
    assert scores[found.probes, found.gallery].tolist() == found.scores.tolist()
    assert other[found.probes, found.gallery].all()
    assert len(set(zip(found.probes, found.gallery, strict=True))) == len(found.scores)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 40), tile=st.sampled_from([3, 16, 500]))
def test_the_nearest_of_each_probe_match_a_sort(seed: int, count: int, tile: int):
    probes, labels = tied_features(20, 5, seed)
    gallery, gallery_labels = tied_features(31, 7, seed + 1)
    scan = PairScan(probes, labels, gallery, gallery_labels, tile)
    nearest = Nearest(len(probes), count)
    for each in scan.tiles():
        nearest.add(each)
    scores = probes[scan.probe_order] @ gallery[scan.gallery_order].T
    scores[scan.probe_labels[:, None] == scan.gallery_labels[None]] = -np.inf
    expected = np.full((20, count), -np.inf)
    expected[:, : min(count, 31)] = -np.sort(-scores, axis=1)[:, :count]
    assert nearest.scores.tolist() == expected.tolist()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), tile=st.sampled_from([3, 16, 500]))
def test_the_lowest_mates_match_a_sort_with_ties(seed: int, count: int, tile: int):
    features, labels = tied_features(25, 5, seed)
    scan, lowest = PairScan(features, labels, tile=tile), LowestMates(count)
    for each in scan.tiles():
        lowest.add(each)
    found = lowest.ascending()
    left, right = np.triu_indices(25, 1)
    scores = (features @ features.T)[left, right][labels[left] == labels[right]]
    assert found.scores.tolist() == np.sort(scores)[:count].tolist()
    first, second = scan.probe_order[found.probes], scan.probe_order[found.gallery]
    assert (labels[first] == labels[second]).all()
    assert (first != second).all()
    assert found.scores.tolist() == (features[first] * features[second]).sum(axis=1).tolist()
