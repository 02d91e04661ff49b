"""An ensemble combines the embeddings of its members; its cache is made from theirs."""

import numpy as np
import pytest

from curation.errors import UserError
from curation.images import decode
from curation.subsets import write_cap
from teachers import embeddings
from teachers.embedder import embed_both, normalise
from teachers.embeddings import cache_embeddings
from teachers.ensemble import COMBINATIONS, Ensemble
from teachers.preprocessing import Preprocessing


class Squares:
    """The mean colours of squares, after its own preprocessing; counts its images."""

    on_gpu = False

    def __init__(self, side=2, colour="RGB", scale=1.0, digest="5a"):
        self.side, self.scale, self.digest = side, scale, digest * 32
        self.embedding = 3 * side * side
        self.preprocessing = Preprocessing(colour=colour, mean=110.0, std=20.0, size=(24, 24))
        self.shown = 0

    def embed(self, images):
        self.shown += len(images)
        pixels = self.preprocessing(images)
        wide = 24 // self.side
        squares = pixels.reshape(len(pixels), 3, self.side, wide, self.side, wide)
        return self.scale * squares.mean(axis=(3, 5)).reshape(len(pixels), self.embedding)


@pytest.fixture(autouse=True)
def small_claims(monkeypatch):
    monkeypatch.setattr(embeddings, "CLAIM", 10)


@pytest.fixture
def pictures(drawn_store):
    return np.stack([decode(drawn_store.read(i)) for i in (0, 9, 30)])


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_members_count_equally_however_long_their_vectors_are(pictures):
    quiet, loud = Squares(2, scale=0.01), Squares(3, scale=100.0)
    both = Ensemble([quiet, loud], "concatenate")
    found = unit(both.embed(pictures))
    expected = unit(np.hstack([unit(quiet.embed(pictures)), unit(loud.embed(pictures))]))
    assert both.embedding == found.shape[1] == 12 + 27
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found[:, :12], axis=1), 0.5**0.5, atol=1e-6)


def test_averaged_members_give_the_direction_between_them(pictures):
    left, right = Squares(2), Squares(2, colour="BGR")
    found = unit(Ensemble([left, right], "average").embed(pictures))
    between = unit(unit(left.embed(pictures)) + unit(right.embed(pictures)))
    np.testing.assert_allclose(found, between, atol=1e-6)


def test_an_embedding_is_as_long_as_the_members_on_average(pictures):
    members = [Squares(2), Squares(2, colour="BGR", scale=5.0)]
    expected = [np.linalg.norm(each.embed(pictures), axis=1) for each in members]
    for combine in COMBINATIONS:
        lengths = np.linalg.norm(Ensemble(members, combine).embed(pictures), axis=1)
        np.testing.assert_allclose(lengths, np.mean(expected, axis=0), rtol=1e-5)


def test_vectors_of_different_lengths_cannot_be_averaged():
    with pytest.raises(UserError, match=r'have 12, 27; use combine = "concatenate"'):
        Ensemble([Squares(2), Squares(3)], "average")


def test_members_order_and_combination_make_the_ensemble():
    one, other = Squares(digest="11"), Squares(digest="22")
    swapped = Squares(2, colour="BGR", digest="11")
    ensembles = [
        Ensemble([one, other], "concatenate"),
        Ensemble([other, one], "concatenate"),
        Ensemble([one, other], "average"),
        Ensemble([one], "average"),
        Ensemble([swapped, other], "concatenate"),
    ]
    assert len({each.digest for each in ensembles}) == len(ensembles)
    assert Ensemble([Squares(digest="11"), other], "average").digest == ensembles[2].digest


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_the_cache_of_an_ensemble_holds_what_it_says(drawn_store, tmp_path, combine, pictures):
    ensemble = Ensemble([Squares(2), Squares(2, colour="BGR", digest="77")], combine)
    cache = cache_embeddings(ensemble, drawn_store, tmp_path)
    said = embed_both(ensemble, pictures)
    np.testing.assert_allclose(cache.unit[[0, 9, 30]], normalise(said), atol=1e-3)
    np.testing.assert_allclose(cache.norm[[0, 9, 30]], np.linalg.norm(said, axis=2), rtol=1e-3)


def test_members_embed_once_alone_or_together(drawn_store, tmp_path):
    first, second, third = (Squares(digest=digest) for digest in ("11", "22", "33"))
    cache_embeddings(first, drawn_store, tmp_path)
    cache_embeddings(Ensemble([first, second], "concatenate"), drawn_store, tmp_path)
    cache_embeddings(Ensemble([second, third], "average"), drawn_store, tmp_path)
    cache_embeddings(third, drawn_store, tmp_path)
    assert [each.shown for each in (first, second, third)] == [2 * len(drawn_store)] * 3
    assert len(list(tmp_path.iterdir())) == 5


def test_a_view_asks_the_members_only_for_its_own_images(drawn_store, tmp_path):
    view = write_cap(tmp_path / "few.view", drawn_store, 1)
    member = Squares()
    cache = cache_embeddings(Ensemble([member], "average"), view, tmp_path / "cache")
    assert np.flatnonzero(cache.table.entries).tolist() == sorted(view.rows.tolist())
    assert member.shown == 2 * len(view)
