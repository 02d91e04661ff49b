"""Pruning of redundant images, against a slow loop."""

import numpy as np
import pytest

from curation.errors import UserError
from curation.noise.embedded import EmbeddedImages
from curation.subsets.by_redundancy import prune, similarities_to_centres, write_prune
from curation.unlabelled import with_each_alone


def drawn(sizes, seed=0):
    random = np.random.default_rng(seed)
    return np.repeat(np.arange(len(sizes)), sizes), random.uniform(-1, 1, sum(sizes))


def kept_slowly(similarities, threshold, least):
    """The images of one identity kept by DiffProb's rule, and ``least`` evenly spread ones."""
    order = list(np.argsort(similarities, kind="stable"))
    kept = [order[0]]
    for image in order[1:]:
        if similarities[image] > similarities[kept[-1]] + threshold:
            kept.append(image)
    if len(order) <= least:
        return set(order)
    return {*kept, *(order[-(-step * len(order) // least)] for step in range(least))}


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("least", [1, 5, 10])
def test_it_uses_the_largest_threshold_that_fits(share, least):
    labels, similarities = drawn([40, 3, 100, 10, 1, 60, 11])
    keep = prune(labels, similarities, share, least)
    identities = [np.flatnonzero(labels == identity) for identity in range(7)]

    def count(threshold):
        return sum(len(kept_slowly(similarities[of], threshold, least)) for of in identities)

    gaps = np.unique(np.concatenate([_differences(similarities[of]) for of in identities]))
    fitting = [gap for gap in gaps if count(gap) >= (1 - share) * len(labels)]
    for of in identities:
        expected = kept_slowly(similarities[of], max(fitting) + 1e-12, least)
        assert set(np.flatnonzero(keep[of])) == expected
        assert keep[of].sum() >= min(least, len(of))
    assert 1 - share <= keep.mean() <= 1 - share + 0.02


def _differences(values):
    return np.abs(values[:, None] - values[None]).ravel()


def test_duplicates_are_dropped_first():
    similarities = np.array([0.1, 0.3, 0.5, 0.5, 0.5, 0.7, 0.9, 0.9])
    keep = prune(np.zeros(8, int), similarities, 3 / 8, least=1)
    assert np.unique(similarities[keep]).tolist() == [0.1, 0.3, 0.5, 0.7, 0.9]
    assert keep.sum() == 5


def test_the_possible_share_is_reported():
    labels, similarities = drawn([20, 5])
    with pytest.raises(UserError, match=r"at most 40\.0% of the images .* keep 10"):
        prune(labels, similarities, 0.5, least=10)


def test_the_similarity_is_the_cosine_to_the_mean(monkeypatch):
    monkeypatch.setattr("curation.subsets.by_redundancy._TOGETHER", 7)
    labels, _ = drawn([4, 9, 1, 6])
    unit = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    found = similarities_to_centres(EmbeddedImages(labels, unit, np.ones(20), np.arange(20)))
    for image in range(20):
        centre = unit[labels == labels[image]].mean(0)
        expected = unit[image] @ centre / np.linalg.norm(centre)
        assert found[image] == pytest.approx(expected, abs=1e-6)


def test_a_view_is_written(drawn_store, tmp_path):
    embedded = _embedded(drawn_store)
    view = write_prune(tmp_path / "few.view", drawn_store, embedded, 0.25, 4, "0123")
    assert len(view) == 36
    assert view.identities == drawn_store.identities
    assert np.bincount(view.labels).min() >= 4
    assert view.history[-1].parameters == {"share": 0.25, "least": 4, "embeddings": "0123"}


@pytest.mark.parametrize(("share", "least"), [(0.0, 5), (1.0, 5), (float("nan"), 5), (0.2, 0)])
def test_invalid_settings_are_refused(drawn_store, tmp_path, share, least):
    with pytest.raises(UserError, match="allowed"):
        write_prune(tmp_path / "few.view", drawn_store, _embedded(drawn_store), share, least)


def _embedded(images):
    unit = np.random.default_rng(0).normal(size=(len(images.store), 8)).astype(np.float32)
    alone = with_each_alone(images)
    return EmbeddedImages(alone.labels, unit, np.ones(len(unit)), images.rows)
