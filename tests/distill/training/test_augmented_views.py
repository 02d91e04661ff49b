"""Students that see augmented views: which, when, and the teacher's embeddings of exactly these."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_training import PREPROCESSING, assert_equal_bits, make_network, make_training, weights
from small_training import watch as watching

from curation.images import decode
from distill.training.answers import CachedAnswers, OnlineAnswers
from distill.training.augment import AugmentSettings
from distill.training.data import BatchLoader, Shard
from distill.training.loop import Stopped, train
from distill.training.pk_shuffle import PKShuffle
from distill.training.shuffles import FullShuffle
from distill.training.views import PLAIN, StudentViews, ViewChoice, label_weights, shown_before
from teachers.augment.augmentation import Augmentation, NumberedView
from teachers.embedder import TorchEmbedder, module_digest
from teachers.embeddings import Answers, cache_embeddings

ROWS = np.arange(500)
ONCE = np.zeros(len(ROWS), np.int64)
MIXING = AugmentSettings(views=5, mix=0.5, least_cosine=-1.0)


def numbers(settings, epoch, rows=ROWS, repeats=ONCE, seed=0):
    return ViewChoice(settings, seed).numbers(epoch, rows, repeats)


def views_of(settings, images, seed=0):
    return StudentViews(Augmentation(settings.strengths, images), ViewChoice(settings, seed))


@pytest.fixture(scope="module")
def teacher():
    network = make_network(seed=7)
    return TorchEmbedder(network, PREPROCESSING, module_digest(network))


@pytest.fixture(scope="module")
def answers(teacher, drawn_store, tmp_path_factory):
    root = tmp_path_factory.mktemp("cache")

    def made(settings):
        augmentation = Augmentation(settings.strengths, drawn_store)
        asked = [None, *(NumberedView(augmentation, k) for k in range(settings.augmented))]
        plain, *views = [
            cache_embeddings(teacher, drawn_store, root, answers=Answers(each)) for each in asked
        ]
        return CachedAnswers(plain, views, settings.least_cosine)

    return made


def test_every_view_is_shown_equally_often():
    settings = AugmentSettings(views=8)
    shown = np.stack([numbers(settings, epoch) for epoch in range(16)])
    for number in range(6):
        assert ((shown == number).sum(axis=0) == 2).all()
    assert ((shown == PLAIN).sum(axis=0) == 4).all()  # the image and its mirror are two views


def test_each_image_has_its_own_order_in_every_cycle():
    settings = AugmentSettings(views=8)
    shown = np.stack([numbers(settings, epoch) for epoch in range(16)])
    assert len(np.unique(shown[:8], axis=1).T) > 4
    assert (shown[:8] != shown[8:]).any(axis=0).mean() > 0.8


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_the_plain_image_can_have_another_share(share):
    settings = AugmentSettings(views=8, plain=share)
    length = round(6 / (1 - share))
    shown = np.stack([numbers(settings, epoch) for epoch in range(length)])
    assert (shown == PLAIN).mean() == pytest.approx(share, abs=0.01)
    assert ((shown == 3).sum(axis=0) == 1).all()


def test_a_share_of_plain_views_with_an_endless_cycle_is_refused():
    settings = AugmentSettings(views=1024, plain=0.99)
    assert (numbers(settings, 5) == PLAIN).mean() == pytest.approx(0.99, abs=0.02)
    with pytest.raises(ValidationError, match="less than or equal to"):
        AugmentSettings(views=16, plain=1 - 1e-12)  # a cycle of 1e13 epochs


def test_the_choice_follows_from_seed_epoch_and_image_alone():
    settings = AugmentSettings(views=8)
    whole = numbers(settings, 5)
    some = np.array([3, 77, 400])
    assert numbers(settings, 5, some, np.zeros(3, np.int64)).tolist() == whole[some].tolist()
    assert (numbers(settings, 5, seed=1) != whole).any()


def test_an_image_twice_in_an_epoch_shows_another_view():
    settings = AugmentSettings(views=8)
    shown = {tuple(numbers(settings, 2, np.full(8, 7), np.arange(8)).tolist())}
    (row,) = shown
    assert sorted(row) == [PLAIN, PLAIN, 0, 1, 2, 3, 4, 5]


def test_fresh_views_are_never_repeated():
    settings = AugmentSettings(views="fresh")
    shown = np.stack(
        [numbers(settings, epoch, repeats=ONCE + k) for epoch in range(9) for k in (0, 1)]
    )
    assert (shown == PLAIN).mean() == pytest.approx(0.125, abs=0.02)
    for of_image in shown.T[:50]:
        augmented = of_image[of_image != PLAIN]
        assert len(set(augmented.tolist())) == len(augmented)


def test_how_often_an_image_came_before_in_an_order():
    random = np.random.default_rng(0)
    for order in (random.integers(0, 9, 60), random.permutation(50), np.empty(0, np.int64)):
        slow = [(order[:place] == image).sum() for place, image in enumerate(order)]
        assert shown_before(order).tolist() == slow


def test_labels_of_mixed_images_weigh_nothing():
    mixed = np.array([True, False, False, True, False])
    assert label_weights(mixed).tolist() == pytest.approx([0, 5 / 3, 5 / 3, 0, 5 / 3])
    assert label_weights(~np.zeros(4, bool)).tolist() == [0, 0, 0, 0]


def expected_picture(store, views, index, number, mirrored):
    picture = decode(store.read(index))
    if number == PLAIN:
        return picture[:, ::-1] if mirrored else picture
    changes = views.augmentation.changes(np.array([index]), np.array([number]))
    return views.augmentation.view(picture, changes[0])


@pytest.mark.parametrize("online", [False, True])
def test_the_teacher_answers_to_the_very_pixels_of_the_student(
    drawn_store, teacher, answers, online
):
    views, plan = views_of(MIXING, drawn_store), FullShuffle(len(drawn_store), 16, 3)
    source = OnlineAnswers(teacher) if online else answers(MIXING)
    with BatchLoader(drawn_store, PREPROCESSING, plan, source, views=views) as loader:
        batches = list(loader.batches(0, 6))
    seen = set()
    for step, batch in enumerate(batches):
        epoch, place = divmod(step, plan.steps_per_epoch)
        order, mirrored = (part[16 * place : 16 * place + 16] for part in plan.epoch(epoch))
        assert batch.indices.tolist() == order.tolist()
        chosen = views.choice.numbers(epoch, order, np.zeros(16, np.int64))
        seen |= set(chosen.tolist())
        for k, number in enumerate(chosen.tolist()):
            picture = expected_picture(drawn_store, views, int(order[k]), number, mirrored[k])
            pixels = PREPROCESSING.resize(np.ascontiguousarray(picture)[None])
            np.testing.assert_array_equal(batch.pixels[k], pixels[0])
            raw = teacher.embed(np.ascontiguousarray(picture)[None])[0]
            assert np.abs(batch.teacher[k] - raw / np.linalg.norm(raw)).max() < 1e-3
    assert seen == {PLAIN, 0, 1, 2}


def test_the_plain_embedding_can_stand_for_all_views(drawn_store, teacher, answers):
    fresh = AugmentSettings(views="fresh", teacher_sees="plain", plain=0.0)
    views, plan = views_of(fresh, drawn_store), FullShuffle(len(drawn_store), 48, 3)
    source = CachedAnswers(answers(MIXING).plain, None)
    with BatchLoader(drawn_store, PREPROCESSING, plan, source, views=views) as loader:
        batch = next(loader.batches(0, 1))
    shown = views.shown(0, batch.indices, np.zeros(48, np.int64), np.zeros(48, bool))
    assert set(shown.mirrored.tolist()) == {False, True}
    for k, (index, number, mirrored) in enumerate(
        zip(batch.indices.tolist(), shown.numbers.tolist(), shown.mirrored.tolist(), strict=True)
    ):
        view = expected_picture(drawn_store, views, index, number, mirrored)
        plain = expected_picture(drawn_store, views, index, PLAIN, mirrored)
        pixels = PREPROCESSING.resize(np.ascontiguousarray(view)[None])
        np.testing.assert_array_equal(batch.pixels[k], pixels[0])
        raw = teacher.embed(np.ascontiguousarray(plain)[None])[0]
        assert np.abs(batch.teacher[k] - raw / np.linalg.norm(raw)).max() < 1e-3


def test_views_that_the_teacher_misjudges_are_replaced(drawn_store, teacher, answers):
    """Cached and online alike: by the plain image, mirrored like the view."""
    strict = AugmentSettings(views=5, mix=0.3, least_cosine=0.995)
    views, plan = views_of(strict, drawn_store), FullShuffle(len(drawn_store), 48, 3)
    batches = []
    for source in (answers(strict), OnlineAnswers(teacher, strict.least_cosine)):
        with BatchLoader(drawn_store, PREPROCESSING, plan, source, views=views) as loader:
            batches.append(next(loader.batches(0, 1)))
    cached, online = batches
    np.testing.assert_array_equal(cached.pixels, online.pixels)
    assert np.abs(cached.teacher.astype(float) - online.teacher).max() < 1e-3
    order, mirrored = plan.epoch(0)
    shown = views.shown(0, order, np.zeros(48, np.int64), mirrored)
    replaced = kept = 0
    for k in range(48):
        view = expected_picture(drawn_store, views, order[k], shown.numbers[k], shown.mirrored[k])
        plain = expected_picture(drawn_store, views, order[k], PLAIN, shown.mirrored[k])
        vectors = teacher.embed(np.stack([view, plain]))
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        usable = shown.mixed[k] or unit[0] @ unit[1] >= 0.995
        replaced, kept = replaced + (not usable), kept + bool(usable)
        pixels = PREPROCESSING.resize(np.ascontiguousarray(view if usable else plain)[None])
        np.testing.assert_array_equal(cached.pixels[k], pixels[0])
    assert replaced > 5
    assert kept > 5


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_show_together_what_one_shows_alone(drawn_store, answers, ranks):
    views, plan = views_of(MIXING, drawn_store), FullShuffle(len(drawn_store), 16, 1)
    source = answers(MIXING)
    whole = list(BatchLoader(drawn_store, PREPROCESSING, plan, source, views=views).batches(2, 5))
    parts = [
        list(
            BatchLoader(
                drawn_store, PREPROCESSING, plan, source, shard=Shard(rank, ranks), views=views
            ).batches(2, 5)
        )
        for rank in range(ranks)
    ]
    for step, batch in enumerate(whole):
        for name in ("pixels", "teacher", "label_weights", "indices"):
            together = np.concatenate([getattr(part[step], name) for part in parts])
            np.testing.assert_array_equal(together, getattr(batch, name))
    assert all(batch.label_weights.mean() == pytest.approx(1) for batch in whole)


def test_pk_batches_show_an_image_in_several_views(drawn_store):
    """If an identity has fewer images than a batch shows of it."""
    settings = AugmentSettings(views=16)
    views, plan = views_of(settings, drawn_store), PKShuffle(drawn_store.labels, 48, 0, 16)
    with BatchLoader(drawn_store, PREPROCESSING, plan, views=views) as loader:
        batch = next(loader.batches(0, 1))
    shown = [batch.pixels[batch.indices == index] for index in np.unique(batch.indices)]
    assert all(len(pictures) == 2 for pictures in shown)
    differ = [(pictures[0] != pictures[1]).any() for pictures in shown]
    assert np.mean(differ) > 0.9


def guided(store, source, **settings):
    losses = {"arcface": {"scale": 16.0, "margin": 0.2}, "angular": {}}
    training = make_training(store, source.plain, losses, epochs=3, **settings)
    return replace(training, augment=MIXING, view_caches=source.views)


@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
def test_stopped_and_resumed_it_sees_the_same_views(drawn_store, answers, tmp_path, engine):
    source = answers(MIXING)
    whole, cut, resumed = (guided(drawn_store, source, engine=engine) for _ in range(3))
    train(whole, tmp_path / "whole", watching())
    steps = []
    with pytest.raises(Stopped):
        train(cut, tmp_path / "cut", watching(steps, lambda: len(steps) == 5))
    train(resumed, tmp_path / "cut", watching())
    assert_equal_bits(weights(resumed), weights(whole))


def test_an_online_teacher_trains_nearly_the_same_student(drawn_store, teacher, answers, tmp_path):
    source = answers(MIXING)
    cached, online = (guided(drawn_store, source, learning_rate=0.001) for _ in range(2))
    online = replace(online, cache=None, view_caches=(), teacher=teacher)
    lines = [[], []]
    train(cached, tmp_path / "cached", watching(lines[0]))
    train(online, tmp_path / "online", watching(lines[1]))
    assert lines[0][0]["loss_total"] == pytest.approx(lines[1][0]["loss_total"], rel=1e-4)
    # Later steps diverge, as between any two trainings that differ by rounding.
    for left, right in zip(lines[0][:5], lines[1][:5], strict=True):
        assert left["loss_angular"] == pytest.approx(right["loss_angular"], rel=1e-3)


def test_micro_batches_have_the_losses_of_the_batch(drawn_store, answers, tmp_path):
    """Also with mixed images, of which one micro-batch has more than the other."""
    lines = [[], []]
    for metrics, accumulate in zip(lines, (1, 2), strict=True):
        training = guided(drawn_store, answers(MIXING), accumulate=accumulate)
        training.network.eval()
        training.network.train = lambda mode=True, network=training.network: network
        train(training, tmp_path / str(accumulate), watching(metrics))
    for left, right in zip(lines[0][:2], lines[1][:2], strict=True):
        assert left["loss_arcface"] == pytest.approx(right["loss_arcface"], rel=1e-4)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"views": 2}, "2 would be the image and its mirror"),
        ({"views": 1, "grey": 0.5}, "needs augmented views"),
        ({"blur": {"share": 0.5}}, "needs augmented views"),
        (
            {
                "views": 8,
                "grey": 0.0,
                **{
                    name: {"share": 0.0}
                    for name in ("crop", "tone", "blur", "low_resolution", "jpeg", "erase")
                },
            },
            "all shares are 0",
        ),
    ],
)
def test_settings_without_a_view_are_refused(given, words):
    with pytest.raises(ValidationError, match=words):
        AugmentSettings(**given)


def test_labels_alone_can_be_learnt_from_views(drawn_store, tmp_path):
    metrics = []
    training = replace(make_training(drawn_store, epochs=12), augment=AugmentSettings(views=4))
    train(training, tmp_path, watching(metrics))
    assert metrics[-1]["loss_arcface"] < 0.8 * metrics[0]["loss_arcface"]
    assert torch.isfinite(
        training.network.state_dict()[next(iter(training.network.state_dict()))]
    ).all()
