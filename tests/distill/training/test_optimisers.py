"""SGD and AdamW: their defaults, their updates, and exact resumes."""

import pytest
import torch
from pydantic import ValidationError
from small_training import (
    ENGINES,
    PREPROCESSING,
    assert_equal_bits,
    make_network,
    make_training,
    watch,
    weights,
)

from distill.training.checkpoints import newest_checkpoint
from distill.training.config import TrainSettings
from distill.training.engines import create_engine
from distill.training.learner import Learner, optimiser
from distill.training.loop import STATE, Stopped, train

ADAMW = {"optimiser": "adamw", "epochs": 2, "learning_rate": 1e-3}


def test_each_optimiser_has_its_own_defaults():
    sgd, adamw = TrainSettings(), TrainSettings(optimiser="adamw")
    assert (sgd.learning_rate, sgd.final_learning_rate) == (0.1, 1e-4)
    assert (sgd.momentum, sgd.weight_decay) == (0.9, 5e-4)
    assert (adamw.learning_rate, adamw.final_learning_rate) == (1e-3, 1e-6)
    assert (adamw.momentum, adamw.weight_decay) == (None, 0.1)
    said = TrainSettings(optimiser="adamw", learning_rate=6e-3, weight_decay=0.05)
    assert (said.learning_rate, said.weight_decay) == (6e-3, 0.05)


def test_a_momentum_with_adamw_is_refused():
    with pytest.raises(ValidationError, match=r'momentum: needs optimiser = "sgd"'):
        TrainSettings(optimiser="adamw", momentum=0.9)


def test_filled_in_settings_can_be_read_again():
    for given in ({}, {"optimiser": "adamw"}, {"schedule": "step", "milestones": [0.5]}):
        settings = TrainSettings(**given)
        assert TrainSettings.model_validate_json(settings.model_dump_json()) == settings


def test_adamw_has_the_papers_groups_and_torchs_betas(drawn_store):
    training = make_training(drawn_store)
    learner = Learner(training.network, training.losses, PREPROCESSING)
    settings = TrainSettings(optimiser="adamw", head_weight_decay=0.2)
    built = optimiser(learner, settings)
    assert isinstance(built, torch.optim.AdamW)
    assert [group["weight_decay"] for group in built.param_groups] == [0.1, 0.2, 0.0]
    assert {(*group["betas"], group["eps"]) for group in built.param_groups} == {(0.9, 0.999, 1e-8)}


def test_the_first_adamw_update_is_learning_rate_and_decay(drawn_store, tmp_path):
    """With both moments at their start, m / sqrt(v) is the gradient's sign (Adam, section 2.1)."""
    before = make_network().state_dict()["stem.0.weight"].clone()
    training = make_training(
        drawn_store, epochs=1, batch_size=48, warmup=0.0, optimiser="adamw", learning_rate=1e-3
    )
    train(training, tmp_path, watch())
    moved = training.network.state_dict()["stem.0.weight"] - before * (1 - 1e-3 * 0.1)
    assert torch.allclose(moved.abs(), torch.tensor(1e-3), rtol=1e-2, atol=0)


@pytest.mark.parametrize(
    "engine", ["torch", pytest.param("zero 1", marks=pytest.mark.slow), "zero 2"]
)
def test_adamw_with_averages_resumes_to_the_same_bits(drawn_store, tmp_path, engine):
    settings = {**ADAMW, "ema": 0.9, **ENGINES[engine]}
    whole = make_training(drawn_store, **settings)
    train(whole, tmp_path / "whole", watch())
    lines, cut = [], make_training(drawn_store, **settings)
    with pytest.raises(Stopped):
        train(cut, tmp_path / "cut", watch(lines, lambda: len(lines) == 3))
    again = make_training(drawn_store, **settings)
    train(again, tmp_path / "cut", watch(lines))
    assert [line["iteration"] for line in lines] == list(range(1, 9))
    assert_equal_bits(weights(again), weights(whole))


@pytest.fixture(scope="module")
def cut(drawn_store, tmp_path_factory):
    """The state of a training with AdamW that was stopped after six of eight steps."""
    folder, lines = tmp_path_factory.mktemp("cut"), []
    with pytest.raises(Stopped):
        train(make_training(drawn_store, **ADAMW), folder, watch(lines, lambda: len(lines) == 5))
    return torch.load(newest_checkpoint(folder) / STATE, weights_only=True)["engine"]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_takes_and_gives_the_same_state_of_adamw(drawn_store, cut, engine):
    training = make_training(drawn_store, **ADAMW, **ENGINES[engine])
    learner = Learner(training.network, training.losses, PREPROCESSING)
    taker = create_engine(learner, training.settings)
    taker.load(cut)
    given = taker.state()
    assert_equal_bits(given["learner"], cut["learner"])
    assert given["optimiser"].keys() == cut["optimiser"].keys() == {"step", "exp_avg", "exp_avg_sq"}
    for key, by_name in cut["optimiser"].items():
        assert_equal_bits(given["optimiser"][key], by_name)
    assert {float(steps) for steps in given["optimiser"]["step"].values()} == {6.0}


def test_a_zero_group_counts_its_newest_parameters_steps(drawn_store, cut):
    """Too few make its first updates smaller; too many would make those of the new one larger."""
    training = make_training(drawn_store, **ADAMW, **ENGINES["zero 2"])
    learner = Learner(training.network, training.losses, PREPROCESSING)
    taker = create_engine(learner, training.settings)
    before = {key: dict(by_name) for key, by_name in cut["optimiser"].items()}
    for by_name in before.values():
        del by_name["losses.centres"]  # in one group with the last layer
    taker.load_optimiser(before)
    steps = taker.state()["optimiser"]["step"]
    assert steps["losses.centres"] == steps["network.embedding.0.weight"] == 0
    assert steps["network.stem.0.weight"] == 6
