"""A body that learns at a fraction of the rate, or not at all, with every engine."""

from dataclasses import replace

import pytest
from small_training import ENGINES, PREPROCESSING, make_training, watch

from distill.training.config import FROZEN
from distill.training.learner import RATE, Learner, optimiser
from distill.training.loop import train
from teachers.networks import head_parameters


def settings(training, rate):
    return training.settings.model_copy(update={"body_learning_rate": rate})


@pytest.mark.parametrize("optimiser_name", ["sgd", "adamw"])
@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_every_parameter_is_in_one_group_of_its_rate(drawn_store, rate, optimiser_name):
    more = {"optimiser": "adamw"} if optimiser_name == "adamw" else {}
    training = make_training(drawn_store, body_learning_rate=rate, **more)
    learner = Learner(training.network, training.losses, PREPROCESSING)
    groups = optimiser(learner, training.settings).param_groups
    rates = {parameter: group[RATE] for group in groups for parameter in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(rates)
    fast = {*head_parameters(learner.network), *learner.losses.parameters()}
    for parameter in learner.parameters():
        if parameter.requires_grad:
            assert rates[parameter] == (1.0 if parameter in fast else rate)


@pytest.mark.parametrize("engine", ["torch", "zero 0", "zero 2"])
@pytest.mark.parametrize(("rate", "moves"), [(FROZEN, 0.0), (1e-5, 1e-3)])
def test_the_body_moves_by_its_rate_alone(drawn_store, tmp_path, engine, rate, moves):
    training = make_training(drawn_store, epochs=1, **ENGINES[engine])
    training = replace(training, settings=settings(training, rate))
    before = {key: value.clone() for key, value in training.network.state_dict().items()}
    train(training, tmp_path, watch())
    after = training.network.state_dict()

    def moved(key):
        return (after[key] - before[key]).abs().max()

    body = {key for key, _ in training.network.named_parameters() if "embedding" not in key}
    assert max(map(moved, body)) <= moves
    assert moved("embedding.0.weight") > 10 * max(moves, 1e-3)
    statistics = [key for key in before if "running" in key and "embedding" not in key]
    assert (max(map(moved, statistics)) == 0) == (rate == FROZEN)
