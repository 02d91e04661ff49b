"""Several image sets in one training: the content of batches, and whose labels count."""

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rank_several_sets
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_training import assert_equal_bits, make_training, watch, weights

from curation.conversion.convert import convert
from curation.errors import UserError
from curation.images import encode_jpeg
from curation.records.layout_writer import write_layout
from curation.view_writing import write_subset
from distill.backbones import create
from distill.signals import Stopped
from distill.training.answers import CachedAnswers
from distill.training.augment import AugmentSettings
from distill.training.config import SamplerSettings, TrainSettings
from distill.training.data import BatchLoader, Shard
from distill.training.loop import train
from distill.training.plan import SHUFFLE, create_plan
from distill.training.several_sets import TrainedSet, as_one
from distill.training.shared_plan import SharedShuffle, SharingGroup
from distill.training.shuffles import FullShuffle
from distill.training.views import StudentViews, ViewChoice
from teachers.augment.augmentation import Augmentation, NumberedView
from teachers.embedder import TorchEmbedder, module_digest
from teachers.embeddings import PLAIN, Answers, cache_digest, cache_embeddings, cached_rows
from teachers.preprocessing import Preprocessing
from tests.conftest import draw

SIZE = Preprocessing.ours((48, 48))


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Five other people with four images each, as another store."""
    folder = tmp_path_factory.mktemp("street")
    faces = [(encode_jpeg(draw(20 + who, i)), who) for who in range(5) for i in range(4)]
    write_layout(folder / "records", faces, (48, 48))
    return convert(folder / "records", folder / "street.lmdb")


@pytest.fixture(scope="module")
def halves(drawn_store, tmp_path_factory):
    """Views of the first two and the last four people of the drawn images."""
    folder = tmp_path_factory.mktemp("halves")
    first = drawn_store.labels < 2
    return (
        write_subset(folder / "first.view", drawn_store, first, "some", {}),
        write_subset(folder / "last.view", drawn_store, ~first, "some", {}),
    )


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    network = create("mobilefacenet", 16, SIZE.size, 0.125)
    return TorchEmbedder(network, SIZE, module_digest(network))


PK = SamplerSettings(kind="pk", images=4)


def planned(images, batch=12, sampler=SHUFFLE, **chosen):
    return create_plan(images, TrainSettings(batch_size=batch, **chosen), sampler)


def batches_of(plan, epochs):
    orders = [plan.epoch(epoch)[0] for epoch in range(epochs)]
    return [batch for order in orders for batch in order.reshape(-1, plan.batch_size)]


class TestASetOfSeveral:
    def test_one_set_with_labels_is_not_wrapped(self, drawn_store):
        assert as_one([TrainedSet(drawn_store)]) is drawn_store

    def test_the_union_has_all_images_and_the_unlabelled_last(self, drawn_store, street):
        mixture = as_one([TrainedSet(street, labels=False), TrainedSet(drawn_store)])
        assert (len(mixture), mixture.identities, mixture.unlabelled) == (68, 6, 20)
        assert mixture.labels[:48].tolist() == drawn_store.labels.tolist()
        assert (mixture.labels[48:] == -1).all()
        assert mixture.offsets.tolist() == [0, 8, 16, 24, 32, 40, 48]
        for i in (0, 47, 48, 67):
            found, place = mixture.found(i)
            assert found is (drawn_store if i < 48 else street)
            assert mixture.read(i) == found.read(place)
        both = as_one([TrainedSet(street), TrainedSet(drawn_store)])
        assert (both.identities, both.unlabelled) == (11, 0)
        assert list(both.read_many(np.array([60, 3]))) == [drawn_store.read(40), street.read(3)]

    def test_people_of_one_store_are_the_same_in_two_of_its_views(self, drawn_store, halves):
        _, last = halves
        mixture = as_one([TrainedSet(last, 0.5), TrainedSet(drawn_store, 0.5)])
        assert (len(mixture), mixture.identities) == (32 + 48, 6)
        sizes = np.diff(mixture.offsets).tolist()
        assert sizes == [16, 16, 16, 16, 8, 8]  # those of the view come first

    def test_the_digest_depends_on_shares_and_used_labels(self, drawn_store, street):
        def digest(share, labels):
            return as_one(
                [TrainedSet(drawn_store, share), TrainedSet(street, 1 - share, labels=labels)]
            ).digest

        found = {digest(0.5, True), digest(0.5, False), digest(0.25, False)}
        assert len(found) == 3
        again = pickle.loads(pickle.dumps(as_one([TrainedSet(drawn_store), TrainedSet(street)])))
        assert again.digest == as_one([TrainedSet(drawn_store), TrainedSet(street)]).digest

    def test_sets_with_different_image_sizes_are_refused(self, drawn_store, tmp_path):
        faces = [(encode_jpeg(draw(0, i)[:40, :40]), 0) for i in range(2)]
        write_layout(tmp_path / "records", faces, (40, 40))
        small = convert(tmp_path / "records", tmp_path / "small.lmdb")
        with pytest.raises(UserError, match=r"has images of 48x48 and .*small\.lmdb of 40x40"):
            as_one([TrainedSet(drawn_store), TrainedSet(small)])

    def test_a_damaged_image_is_named_in_its_own_set(self, drawn_store, street):
        from curation.bad_images import bad_image

        mixture = as_one([TrainedSet(drawn_store), TrainedSet(street, labels=False)])
        told = str(bad_image(mixture, 50, UserError("is bad")))
        assert told.startswith(f"{street.path}: image 2 (key {street.source_keys[2]}): is bad")


class TestBatches:
    @pytest.mark.parametrize(("share", "batch"), [(0.7, 12), (0.5, 7), (0.05, 10)])
    def test_batches_have_the_shares(self, drawn_store, street, share, batch):
        mixture = as_one(
            [TrainedSet(drawn_store, share), TrainedSet(street, 1 - share, labels=False)]
        )
        found = batches_of(planned(mixture, batch), 20)
        of_first = np.array([(mixture.which[batch] == 0).sum() for batch in found])
        assert abs(of_first.sum() - share * batch * len(found)) <= 1
        assert of_first.max() - of_first.min() <= 1

    def test_batches_show_every_image_of_a_set_before_one_repeats(self, drawn_store, street):
        mixture = as_one([TrainedSet(drawn_store, 0.25), TrainedSet(street, 0.75, labels=False)])
        shown = np.concatenate(batches_of(planned(mixture), 16))
        for number in (0, 1):
            times = Counter(shown[mixture.which[shown] == number].tolist())
            assert len(times) == (mixture.which == number).sum()
            assert max(times.values()) - min(times.values()) <= 1

    def test_batches_have_the_shares_of_the_sizes_by_default(self, drawn_store, street):
        mixture = as_one([TrainedSet(drawn_store), TrainedSet(street)])
        plan = planned(mixture)
        assert isinstance(plan, FullShuffle)
        assert plan.images == 68

    def test_batches_are_the_same_when_read_in_sequence(self, drawn_store, street):
        mixture = as_one([TrainedSet(drawn_store, 0.5), TrainedSet(street, 0.5)])
        plan = planned(mixture, shuffle="windowed", shuffle_window=24)
        with BatchLoader(mixture, SIZE, plan) as loader:
            found = [batch.indices for batch in loader.batches(2, 9)]
        assert np.array_equal(found, batches_of(plan, 3)[2:9])

    @pytest.mark.parametrize("shares", [(None, None), (0.5, 0.5)])
    def test_batches_have_whole_identities_if_labels_matter(self, drawn_store, street, shares):
        sources = [TrainedSet(drawn_store, shares[0]), TrainedSet(street, shares[1], labels=False)]
        mixture = as_one(sources)
        for batch in batches_of(planned(mixture, 16, PK), 6):
            blocks = mixture.labels[batch.reshape(-1, 4)]
            assert (blocks == blocks[:, :1]).all()
            assert (mixture.labels[batch] == -1).any()
            people = blocks[:, 0][blocks[:, 0] >= 0].tolist()
            assert people

    def test_pk_batches_need_identities(self, street, drawn_store):
        mixture = as_one([TrainedSet(drawn_store, labels=False), TrainedSet(street, labels=False)])
        with pytest.raises(UserError, match=r"no image of data\.train has a usable label"):
            planned(mixture, sampler=PK)

    @settings(deadline=None, max_examples=80)
    @given(
        st.lists(st.integers(1, 100), min_size=2, max_size=5),
        st.integers(1, 9),
        st.integers(1, 3),
    )
    def test_any_shares_fill_every_batch_in_proportion(self, parts, each, block):
        shares = [part / sum(parts) for part in parts]
        sizes = [(number + 2) * block for number in range(len(parts))]
        begins = np.cumsum([0, *sizes])
        groups = [
            SharingGroup(np.arange(begin, begin + size), FullShuffle(size, 1, 0), share, size)
            for begin, size, share in zip(begins[:-1], sizes, shares, strict=True)
        ]
        plan = SharedShuffle(groups, 20 * each * block, each * block, 0, block)
        shown = np.concatenate([plan.epoch(epoch)[0] for epoch in range(5)])
        assert len(shown) == 100 * each * block
        counts = np.histogram(shown, begins)[0]
        wanted = np.array(shares) * len(shown)
        assert (np.abs(counts - wanted) <= block * len(parts)).all()


class TestLabels:
    def test_only_images_with_used_labels_have_a_weight(self, drawn_store, street):
        mixture = as_one([TrainedSet(drawn_store, 0.5), TrainedSet(street, 0.5, labels=False)])
        with BatchLoader(mixture, SIZE, planned(mixture)) as loader:
            for batch in loader.batches(0, 4):
                counting = mixture.labels[batch.indices] >= 0
                assert np.array_equal(batch.label_weights, 2.0 * counting)
                assert set(batch.labels) == set(mixture.labels[batch.indices][counting])

    def test_ranks_agree_on_the_weights(self, drawn_store, street):
        mixture = as_one([TrainedSet(drawn_store, 0.7), TrainedSet(street, 0.3, labels=False)])
        plan = planned(mixture)

        def read(shard):
            with BatchLoader(mixture, SIZE, plan, shard=shard) as loader:
                return list(loader.batches(0, 5))

        whole = read(Shard(0, 1))
        halves = zip(read(Shard(0, 2)), read(Shard(1, 2)), strict=True)
        for batch, parts in zip(whole, halves, strict=True):
            for name in ("labels", "label_weights", "indices", "pixels"):
                together = np.concatenate([getattr(part, name) for part in parts])
                assert np.array_equal(getattr(batch, name), together)

    def test_mixed_views_have_no_label_weight(self, drawn_store, street):
        mixture = as_one([TrainedSet(drawn_store, 0.5), TrainedSet(street, 0.5, labels=False)])
        augment = AugmentSettings(views=4, mix=0.5)
        views = StudentViews(Augmentation(augment.strengths, mixture), ViewChoice(augment, seed=0))
        with BatchLoader(mixture, SIZE, planned(mixture), views=views) as loader:
            batches = list(loader.batches(0, 10))
        for batch in batches:
            counting = mixture.labels[batch.indices] >= 0
            assert not batch.label_weights[~counting].any()
        weights = np.concatenate([batch.label_weights for batch in batches])
        labelled = np.concatenate([mixture.labels[batch.indices] >= 0 for batch in batches])
        assert 0 < (weights[labelled] == 0).mean() < 1


class TestTeachersAnswers:
    def test_each_store_has_the_cache_that_it_has_alone(
        self, drawn_store, street, halves, teacher, tmp_path
    ):
        mixture = as_one([TrainedSet(street, labels=False), TrainedSet(halves[1])])
        told = []

        def asked(images, answers=PLAIN):
            return cache_embeddings(
                teacher, images, tmp_path, lambda *counts: told.append(counts), None, answers
            )

        mirrored = np.arange(52) % 2
        for answers in (Answers(), Answers(precision="int8")):
            both = asked(mixture, answers)
            assert told[-1] == (52, 52)
            alone, other = asked(drawn_store, answers), asked(street, answers)
            assert both.folders == (other.folder, alone.folder)
            assert both.digest == cache_digest(teacher, mixture, answers) != alone.digest
            expected = np.concatenate(
                [
                    alone.vectors(halves[1].rows, mirrored[:32]),
                    other.vectors(np.arange(20), mirrored[32:]),
                ]
            )
            assert np.array_equal(both.vectors(mixture.rows, mirrored), expected)
            assert both.vectors(mixture.rows, slice(None)).shape == (52, 2, 16)
            assert both.vectors(np.empty(0, np.int64), 0).shape == (0, 16)

    def test_known_rows_are_known_for_all_stores(self, drawn_store, street, teacher, tmp_path):
        mixture = as_one([TrainedSet(street, labels=False), TrainedSet(drawn_store)])
        rows = mixture.rows[[0, 60, 1]]
        cache_embeddings(teacher, street, tmp_path)
        assert cached_rows(teacher, mixture, tmp_path, rows) is None
        cache = cache_embeddings(teacher, mixture, tmp_path)
        found = cached_rows(teacher, mixture, tmp_path, rows)
        assert np.array_equal(found, cache.vectors(rows, 0))

    def test_views_are_those_of_each_store_alone(self, drawn_store, street, teacher, tmp_path):
        strengths = AugmentSettings(views=4).strengths
        mixture = as_one([TrainedSet(drawn_store), TrainedSet(street, labels=False)])

        def asked(images):
            view = NumberedView(Augmentation(strengths, images), 1)
            return cache_embeddings(teacher, images, tmp_path, answers=Answers(view))

        alone, together = asked(street), asked(mixture)
        assert alone.folder in together.folders
        mirrored = Augmentation(strengths, mixture).mirrored(mixture.rows[48:], 1)
        assert np.array_equal(mirrored, Augmentation(strengths, street).mirrored(street.rows, 1))

    def test_looked_up_embeddings_are_the_teachers(self, drawn_store, street, teacher, tmp_path):
        mixture = as_one([TrainedSet(street, 0.5, labels=False), TrainedSet(drawn_store, 0.5)])
        cache = cache_embeddings(teacher, mixture, tmp_path)
        with BatchLoader(mixture, SIZE, planned(mixture), CachedAnswers(cache)) as loader:
            batch = next(loader.batches(0, 1))
        said = teacher.embed(batch.pixels)
        said /= np.linalg.norm(said, axis=1, keepdims=True)
        assert np.abs(said - batch.teacher).max() < 2e-3


def mixed_training(drawn_store, street, cache, **settings):
    mixture = as_one([TrainedSet(drawn_store, 0.6), TrainedSet(street, 0.4, labels=False)])
    losses = {"arcface": {"scale": 16.0, "margin": 0.2}, "angular": {}}
    return make_training(mixture, cache, losses=losses, epochs=2, batch_size=10, **settings)


def test_a_training_resumes_exactly_and_samples_class_weights(
    drawn_store, street, teacher, tmp_path
):
    mixture = as_one([TrainedSet(drawn_store, 0.6), TrainedSet(street, 0.4, labels=False)])
    cache = cache_embeddings(teacher, mixture, tmp_path / "cache")
    centres = {"sample_rate": 0.5}
    whole = mixed_training(drawn_store, street, cache, centres=centres)
    latest = train(whole, tmp_path / "whole", watch())
    assert np.isfinite(list(latest.values())).all()
    stops = iter([False] * 4 + [True] * 100)
    halted = mixed_training(drawn_store, street, cache, centres=centres)
    with pytest.raises(Stopped):
        train(halted, tmp_path / "halted", watch(stop=lambda: next(stops)))
    resumed = mixed_training(drawn_store, street, cache, centres=centres)
    train(resumed, tmp_path / "halted", watch())
    assert_equal_bits(weights(whole), weights(resumed))


def test_angular_learns_from_images_without_any_label(street, drawn_store, teacher, tmp_path):
    mixture = as_one([TrainedSet(street, labels=False), TrainedSet(drawn_store, labels=False)])
    assert mixture.identities == 0
    cache = cache_embeddings(teacher, mixture, tmp_path)
    training = make_training(
        mixture, cache, losses={"angular": {}, "relational_distance": {}}, epochs=6
    )
    metrics = []
    train(training, tmp_path / "checkpoints", watch(metrics))
    losses = [line["loss_angular"] for line in metrics if "loss_angular" in line]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_two_ranks_train_on_two_sets_as_one_does(drawn_store, street, tmp_path, start_two_ranks):
    paths = drawn_store.path, street.path, tmp_path / "cache"
    alone = rank_several_sets.run_all(*paths, tmp_path / "alone")
    (tmp_path / "both").mkdir()
    script = Path(rank_several_sets.__file__)
    start_two_ranks(script, *paths, tmp_path / "both")
    found = json.loads((tmp_path / "both" / "metrics.json").read_text())
    assert found.keys() == alone.keys()
    for name, metrics in found.items():
        # The first step only, and some of the losses: rounding errors grow in a network this small.
        for value in ("loss_arcface", "loss_angular", "gradient_norm"):
            assert metrics[0][value] == pytest.approx(alone[name][0][value], rel=1e-5), name
        for line, expected in zip(metrics[:5], alone[name][:5], strict=True):
            assert line["loss_total"] == pytest.approx(expected["loss_total"], rel=1e-3), name
