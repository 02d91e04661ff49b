"""Training on several ranks gives the numbers of one; exact and elastic resumes."""

from pathlib import Path

import pytest
import rank_trainings
import torch
from small_training import assert_equal_bits

from distill.training.checkpoints import newest_checkpoint
from distill.training.loop import STATE

HERE = Path(__file__).parent


def by_one(store, folder, stop_at=None, **settings):
    """A training in this process, on one thread like every rank."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return rank_trainings.run(store, folder, stop_at, **settings)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(drawn_store, tmp_path_factory, start_two_ranks):
    """The results of two ranks (see rank_trainings), continuing a training interrupted on one."""
    folder = tmp_path_factory.mktemp("ranks")
    by_one(drawn_store, folder / "from one", rank_trainings.CUT)
    script = HERE / "rank_trainings.py"
    start_two_ranks(script, drawn_store.path, folder)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    """Metrics (of rank 0) and weights of each training on two ranks."""
    return torch.load(folder / "found-0.pt")


@pytest.fixture(scope="module")
def alone(drawn_store, tmp_path_factory):
    """The same training on one rank."""
    return by_one(drawn_store, tmp_path_factory.mktemp("alone"))


def assert_same_curve(left, right):
    assert [line["iteration"] for line in left] == [line["iteration"] for line in right]
    for name in ("loss_total", "gradient_norm"):
        for a, b in zip(left, right, strict=True):
            assert a[name] == pytest.approx(b[name], rel=1e-3)


@pytest.mark.parametrize("engine", rank_trainings.ENGINES)
def test_two_ranks_have_the_losses_and_gradients_of_one(found, alone, engine):
    """Batch normalisation sees the whole batch, so it makes no difference either."""
    metrics, weights = found[engine]
    assert_same_curve(metrics, alone[0])
    for name, value in alone[1].items():
        assert torch.allclose(weights[name].float(), value.float(), rtol=1e-2, atol=1e-3), name


def test_all_ranks_end_with_the_same_weights(folder, found):
    other = torch.load(folder / "found-1.pt")
    for name, (metrics, weights) in other.items():
        assert metrics == []
        assert_equal_bits(weights, found[name][1])


@pytest.mark.parametrize("engine", ["torch", "zero 2"])
def test_stopped_and_resumed_two_ranks_end_with_the_same_bits(found, engine):
    assert found[f"{engine} resumed"][0][0]["iteration"] > 1
    assert_equal_bits(found[f"{engine} resumed"][1], found[engine][1])


def test_a_training_goes_from_one_rank_to_two_and_an_engine(found, alone):
    metrics = found["from one"][0]
    assert metrics[-1]["iteration"] == 4
    assert_same_curve(metrics, alone[0][-len(metrics) :])


def test_from_two_ranks_with_shards_a_training_continues_on_one(drawn_store, folder, alone):
    metrics, _ = by_one(drawn_store, folder / "to one")
    assert 1 < metrics[0]["iteration"] < 4
    assert_same_curve(metrics, alone[0][-len(metrics) :])


@pytest.fixture(scope="module")
def adamw_alone(drawn_store, tmp_path_factory):
    """The metrics and the last state of one rank with AdamW and averages."""
    folder = tmp_path_factory.mktemp("adamw")
    metrics, _ = by_one(drawn_store, folder, **rank_trainings.ADAMW)
    return metrics, last_state(folder)


def last_state(folder):
    return torch.load(newest_checkpoint(folder) / STATE, weights_only=True)


def assert_near(left, right):
    """Two states by parameter, each within a twentieth; a bias before a norm has only noise."""
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert (right[name] - value).norm() <= 0.05 * value.norm() + 1e-12, name


def test_two_sharded_ranks_have_the_moments_of_one(folder, found, adamw_alone):
    assert_same_curve(found["adamw"][0], adamw_alone[0])
    assert_equal_bits(found["adamw resumed"][1], found["adamw"][1])
    state = last_state(folder / "adamw")
    for key in ("step", "exp_avg_sq"):
        assert_near(adamw_alone[1]["engine"]["optimiser"][key], state["engine"]["optimiser"][key])
    name = "stem.0.weight"
    assert torch.allclose(state["average"][name], adamw_alone[1]["average"][name], atol=1e-4)


def test_sharded_moments_of_two_ranks_continue_on_one(drawn_store, folder, adamw_alone):
    metrics, _ = by_one(drawn_store, folder / "adamw to one", **rank_trainings.ADAMW)
    assert_same_curve(metrics, adamw_alone[0][-len(metrics) :])
    state = last_state(folder / "adamw to one")["engine"]["optimiser"]
    for key in ("step", "exp_avg_sq"):
        assert_near(adamw_alone[1]["engine"]["optimiser"][key], state[key])
