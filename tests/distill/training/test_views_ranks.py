"""Augmented and mixed views on two real ranks, together with sharded class weights."""

from pathlib import Path

import pytest
import rank_views
import torch
from rank_views import CUT, EMBEDDING, IDENTITIES, VIEWS
from small_training import assert_equal_bits

from distill.training.shuffles import FullShuffle
from distill.training.views import PLAIN, StudentViews, ViewChoice, shown_before
from teachers.augment.augmentation import Augmentation


@pytest.fixture(scope="module")
def folder(drawn_store, tmp_path_factory, start_two_ranks):
    """The results of two ranks, continuing a training interrupted on one."""
    folder = tmp_path_factory.mktemp("views")
    rank_views.run(drawn_store, folder / "from one", CUT)
    start_two_ranks(Path(rank_views.__file__), drawn_store.path, folder)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """The results of each rank."""
    return [torch.load(folder / f"found-{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone(drawn_store, tmp_path_factory):
    """The same training on one rank, with plain centres."""
    return rank_views.run(drawn_store, tmp_path_factory.mktemp("alone"))


def assert_same_curve(left, right):
    assert [line["iteration"] for line in left] == [line["iteration"] for line in right]
    for a, b in zip(left, right, strict=True):
        for name in ("loss_arcface", "loss_angular", "gradient_norm"):
            assert a[name] == pytest.approx(b[name], rel=1e-3), (a["iteration"], name)


def test_some_images_are_plain_some_views_and_some_mixed(drawn_store):
    """Otherwise the other tests would prove nothing."""
    views = StudentViews(Augmentation(VIEWS.strengths, drawn_store), ViewChoice(VIEWS, 0))
    order, mirrored = FullShuffle(len(drawn_store), 12, 0).epoch(0)
    shown = views.shown(0, drawn_store.rows[order], shown_before(order), mirrored)
    assert shown.mixed.any()
    assert (shown.numbers == PLAIN).any()
    assert ((shown.numbers != PLAIN) & ~shown.mixed).any()


def test_two_ranks_have_the_losses_and_gradients_of_one(found, alone):
    assert_same_curve(found[0]["sharded"][0], alone[0])
    for name, value in alone[1].items():
        torch.testing.assert_close(
            found[0]["sharded"][1][name], value, rtol=1e-2, atol=1e-3, msg=name
        )


def test_the_network_is_the_same_on_both_ranks(found):
    for name in ("sharded", "whole", "from one"):
        first, second = (rank[name][1] for rank in found)
        network = [key for key in first if key != "centres"]
        assert all(torch.equal(first[key], second[key]) for key in network)


def test_resumed_sampled_shards_end_with_the_same_bits(found):
    for rank in found:
        assert_equal_bits(rank["resumed"][1], rank["whole"][1])
    metrics = found[0]["resumed"][0]
    assert (
        CUT
        <= metrics[0]["iteration"]
        <= metrics[-1]["iteration"]
        == found[0]["whole"][0][-1]["iteration"]
    )
    assert found[0]["whole"][1]["centres"].shape == (IDENTITIES, EMBEDDING)


def test_a_training_cut_on_one_rank_continues_on_two(found, alone):
    went_on = found[0]["from one"][0]
    assert len(went_on) < len(alone[0])
    assert_same_curve(went_on, alone[0][-len(went_on) :])


def test_a_training_cut_on_two_ranks_continues_on_one(drawn_store, folder, alone):
    went_on, weights = rank_views.run(drawn_store, folder / "to one")
    assert len(went_on) < len(alone[0])
    assert_same_curve(went_on, alone[0][-len(went_on) :])
    torch.testing.assert_close(weights["centres"], alone[1]["centres"], rtol=1e-2, atol=1e-4)
