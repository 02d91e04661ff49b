"""The PK sampler: whole identities in every batch, taking turns with all their images."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rank_pk_trainings
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_trainings import ENGINES
from small_job import job_text, make_workspace, run_job, stage_text
from small_training import assert_equal_bits, make_training, watch, weights

from curation.errors import UserError
from distill.spec_text import parse_spec
from distill.training.config import SamplerSettings, TrainSettings
from distill.training.data import BatchLoader, Shard
from distill.training.loop import Stopped, train
from distill.training.pk_shuffle import PKShuffle
from distill.training.plan import create_plan
from teachers.preprocessing import Preprocessing

SIZE = Preprocessing.ours((48, 48))


def labels_of(counts):
    return np.repeat(np.arange(len(counts)), counts)


def sequence(plan, epochs):
    """The images [steps * P, K] of each identity's turn over these epochs."""
    order = np.concatenate([plan.epoch(epoch)[0] for epoch in range(epochs)])
    return order.reshape(-1, plan.images_each)


@st.composite
def plans(draw):
    each = draw(st.integers(2, 5))
    counts = draw(st.lists(st.integers(1, 13), min_size=2, max_size=12))
    identities = draw(st.integers(1, len(counts)))
    batch = identities * each
    counts[0] += max(0, batch - sum(counts))  # at least one batch
    return PKShuffle(labels_of(counts), batch, draw(st.integers(0, 9)), each)


@settings(deadline=None, max_examples=60)
@given(plans())
def test_a_batch_holds_different_identities_with_k_images_each(plan):
    labels, per_batch = plan.labels, plan.batch_size // plan.images_each
    for batch in sequence(plan, 4).reshape(-1, per_batch, plan.images_each):
        identities = labels[batch]
        assert (identities == identities[:, :1]).all()
        assert len(set(identities[:, 0])) == per_batch


@settings(deadline=None, max_examples=60)
@given(plans())
def test_identities_are_equally_frequent_at_any_size(plan):
    seen = Counter(plan.labels[sequence(plan, 30)[:, 0]].tolist())
    often = [seen[identity] for identity in range(plan.labels.max() + 1)]
    # One more or less for being left out of a round, one for the unfinished round.
    assert max(often) - min(often) <= 2


@settings(deadline=None, max_examples=60)
@given(plans())
def test_no_image_repeats_before_all_of_its_identity_are_used(plan):
    stretches = sequence(plan, 20)
    for identity in range(plan.labels.max() + 1):
        shown = stretches[plan.labels[stretches[:, 0]] == identity]
        images = np.flatnonzero(plan.labels == identity)
        so_far = Counter(dict.fromkeys(images.tolist(), 0))
        for stretch in shown.tolist():
            so_far.update(stretch)
            assert max(so_far.values()) - min(so_far.values()) <= 1


@settings(deadline=None, max_examples=60)
@given(plans())
def test_an_image_is_its_own_positive_only_without_more(plan):
    for stretch in sequence(plan, 20):
        there = (plan.labels == plan.labels[stretch[0]]).sum()
        assert len(set(stretch.tolist())) == min(there, plan.images_each)


def test_an_identity_of_one_image_repeats_it():
    plan = PKShuffle(labels_of([1, 8, 8, 8]), 8, 0, 4)
    single = [stretch.tolist() for stretch in sequence(plan, 4) if stretch[0] == 0]
    assert single
    assert all(stretch == [0] * 4 for stretch in single)


def test_identities_with_too_few_images_can_be_dropped():
    labels = labels_of([1, 5, 2, 1, 4, 9])
    plan = PKShuffle(labels, 8, 0, 4, least_images=2)
    among_themselves = PKShuffle(labels_of([5, 2, 4, 9]), 8, 0, 4)
    kept = np.flatnonzero(np.isin(labels, [1, 2, 4, 5]))
    assert plan.identities == 4
    assert plan.steps_per_epoch == 20 // 8
    for epoch in range(4):
        assert np.array_equal(plan.epoch(epoch)[0], kept[among_themselves.epoch(epoch)[0]])


def test_an_epoch_is_as_long_as_the_set_and_mirrors_half():
    plan = PKShuffle(labels_of([10] * 100 + [3]), 40, 0, 4)
    order, mirrored = plan.epoch(1)
    assert plan.steps_per_epoch == 1003 // 40
    assert len(order) == len(mirrored) == 25 * 40
    assert 400 < mirrored.sum() < 600


def test_companions_change_from_round_to_round():
    plan = PKShuffle(labels_of([8] * 40), 8, 0, 4)
    pairs = plan.labels[sequence(plan, 10)[:, 0]].reshape(-1, 2)
    assert len({frozenset(pair) for pair in pairs.tolist()}) > 0.7 * len(pairs)
    rounds = plan.labels[sequence(plan, 4)[:, 0]].reshape(-1, 40).tolist()
    assert all(left != right for left, right in pairwise(rounds))


@settings(deadline=None, max_examples=20)
@given(plans())
def test_seed_and_epoch_alone_determine_the_order(plan):
    fresh = PKShuffle(plan.labels, plan.batch_size, plan.seed, plan.images_each)
    plan.epoch(0), plan.epoch(5)
    for again, first in zip(fresh.epoch(3), plan.epoch(3), strict=True):
        assert np.array_equal(again, first)


def test_another_seed_and_another_epoch_are_another_order():
    def order(seed, epoch):
        return PKShuffle(labels_of([8] * 40), 8, seed, 4).epoch(epoch)[0][:40].tolist()

    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_labels_need_not_be_in_order():
    labels = np.random.default_rng(0).permutation(labels_of([3, 5, 9, 1]))
    plan = PKShuffle(labels, 8, 0, 4)
    assert all((labels[stretch] == labels[stretch[0]]).all() for stretch in sequence(plan, 5))


def pk(store, each=2, **given):
    return create_plan(store, TrainSettings(**given), SamplerSettings(kind="pk", images=each))


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_a_batch_by_whole_identities(drawn_store, ranks):
    plan = pk(drawn_store, batch_size=12)
    whole = [batch.labels for batch in BatchLoader(drawn_store, SIZE, plan).batches(2, 7)]
    shards = [
        [
            b.labels
            for b in BatchLoader(drawn_store, SIZE, plan, shard=Shard(r, ranks)).batches(2, 7)
        ]
        for r in range(ranks)
    ]
    for step, labels in enumerate(whole):
        parts = [set(shard[step].tolist()) for shard in shards]
        assert np.array_equal(np.concatenate([shard[step] for shard in shards]), labels)
        assert sum(len(part) for part in parts) == len(set.union(*parts)) == 6


def test_batches_from_the_middle_are_those_of_the_whole_run(drawn_store):
    plan = pk(drawn_store, each=4, batch_size=20)
    with BatchLoader(drawn_store, SIZE, plan) as loader:
        whole, later = list(loader.batches(0, 9)), list(loader.batches(5, 9))
    for left, right in zip(whole[5:], later, strict=True):
        assert np.array_equal(left.indices, right.indices)
        assert np.array_equal(left.pixels, right.pixels)


def test_a_training_with_pk_batches_resumes_to_the_same_bits(drawn_store, tmp_path):
    def training():
        return replace(
            make_training(drawn_store, losses={"arcface": {}, "triplet": {}}, batch_size=16),
            sampler=SamplerSettings(kind="pk", images=4),
        )

    whole, cut, metrics = training(), training(), []
    train(whole, tmp_path / "whole", watch(metrics))
    steps = []
    with pytest.raises(Stopped):
        train(cut, tmp_path / "cut", watch(steps, lambda: len(steps) == 5))
    again = training()
    train(again, tmp_path / "cut", watch(steps))
    assert_equal_bits(weights(again), weights(whole))
    assert [line["mined_share"] for line in steps] == [line["mined_share"] for line in metrics]
    assert 0 < max(line["mined_share"] for line in metrics) <= 1
    assert max(line["margin_violation"] for line in metrics) > 0


def test_batches_that_would_cut_an_identity_are_refused(drawn_store):
    with pytest.raises(UserError, match=r"batch_size = 18 .* 4 images; allowed: multiples of 4$"):
        pk(drawn_store, each=4, batch_size=18)
    sampler = SamplerSettings(kind="pk", images=4)
    with pytest.raises(UserError, match=r"allowed: multiples of 12$"):
        create_plan(drawn_store, TrainSettings(batch_size=16), sampler, ranks=3)


def test_more_identities_per_batch_than_exist_are_refused(drawn_store):
    with pytest.raises(UserError, match=r"batch_size: 28 images .* 6 identities; .*up to 24$"):
        pk(drawn_store, each=4, batch_size=28)


SPEC = """
name = "x"
data.train = "faces/all"
student.backbone = "mobilefacenet"
train.batch_size = 512
[[stage]]
epochs = 1
losses = {{ arcface = {{}} }}
sampler = {sampler}
"""


def test_a_spec_names_the_sampler_of_a_stage():
    [stage] = parse_spec(SPEC.format(sampler='{ kind = "pk", images = 4 }'), "x").stage
    assert stage.sampler == SamplerSettings(kind="pk", images=4)


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        ('{ kind = "kp" }', "stage 1: sampler.kind"),
        ('{ kind = "pk" }', "stage 1: sampler.images: is missing; kind = "),
        ("{ images = 4 }", "stage 1: sampler.images: needs kind = "),
        ('{ kind = "pk", images = 1 }', "stage 1: sampler.images"),
        (
            '{ kind = "pk", images = 3 }',
            r"stage 1: sampler.images: batch_size = 512 .* multiples of 3$",
        ),
    ],
)
def test_a_wrong_sampler_is_refused_in_one_line(sampler, words):
    with pytest.raises(UserError, match=words) as error:
        parse_spec(SPEC.format(sampler=sampler), "x")
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_pk_batches_and_mined_triplets_are_the_same_on_two_ranks(
    drawn_store, tmp_path, start_two_ranks
):
    alone = rank_pk_trainings.run(drawn_store, tmp_path / "alone")
    script = Path(__file__).parent / "rank_pk_trainings.py"
    start_two_ranks(script, drawn_store.path, tmp_path)
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found.keys() == ENGINES.keys()
    for metrics in found.values():
        for line, expected in zip(metrics, alone, strict=True):
            for name in ("loss_total", "loss_triplet", "gradient_norm", "mined_share"):
                assert line[name] == pytest.approx(expected[name], rel=1e-3), name


TRIPLETS = 'arcface = { scale = 16.0 }, triplet = { mining = "batch-hard" }'
JOB = job_text(
    "tiny", stage_text(), stage_text(TRIPLETS, more='sampler = { kind = "pk", images = 4 }')
)


@pytest.mark.slow
def test_each_stage_of_a_job_has_the_sampler_that_it_names(drawn_store, drawn_folder, tmp_path):
    workspace = make_workspace(tmp_path, drawn_store, drawn_folder)
    run_job(workspace, JOB)
    lines = (workspace.runs / "tiny" / "metrics.jsonl").read_text().splitlines()
    metrics = [json.loads(line) for line in lines]
    assert ["mined_share" in line for line in metrics] == [False] * 4 + [True] * 4
    assert all(line["mined_share"] > 0 for line in metrics[4:])
    again = run_job(workspace, JOB.replace("images = 4", "images = 2"))
    assert again["generation 1 stage 1"] == "reused"
    assert again["generation 1 stage 2"] == "done"
