"""The average of the weights over the steps: what is evaluated, kept, and resumed."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from small_training import ENGINES, assert_equal_bits, evaluated, make_training, watch
from timm.utils import ModelEmaV3
from torch import nn

from distill.training.averaging import WeightAverage
from distill.training.checkpoints import newest_checkpoint
from distill.training.config import TrainSettings
from distill.training.loop import STATE, train


def saved(folder):
    return torch.load(newest_checkpoint(folder) / STATE, weights_only=True)


def test_the_average_is_that_of_a_naive_loop():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = WeightAverage(network, decay=0.3)
    expected = {name: value.clone().double() for name, value in network.state_dict().items()}
    for step, decay in enumerate([0.1, 2 / 11, 3 / 12, 0.3, 0.3]):  # (1 + n) / (10 + n), to 0.3
        with torch.no_grad():
            network[0].weight.normal_()
        network(torch.randn(8, 3))
        average.update(step)
        for name, value in network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    counts = "1.num_batches_tracked"
    assert average.weights[counts] == network.state_dict()[counts] == 5
    for name in expected.keys() - {counts}:
        assert torch.allclose(average.weights[name].double(), expected[name], atol=1e-6), name


class RivalAverage(ModelEmaV3):
    def get_decay(self, step: int) -> float:
        return min(self.decay, (1 + step) / (10 + step))


def test_the_average_has_the_bits_of_timms():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU())
    ours, rival = WeightAverage(network, decay=0.9), RivalAverage(network, decay=0.9)
    for step in range(200):
        with torch.no_grad():
            network[0].weight.normal_()
        network(torch.randn(2, 3, 5, 5))
        ours.update(step)
        rival.update(network, step)
    assert list(ours.weights) == list(rival.module.state_dict())
    assert_equal_bits(ours.weights, rival.module.state_dict())


@pytest.mark.parametrize("engine", ["torch", "zero 2"])
def test_a_training_leaves_the_averages_and_trains_as_without(drawn_store, tmp_path, engine):
    plain = make_training(drawn_store, epochs=2, **ENGINES[engine])
    train(plain, tmp_path / "plain", watch())
    averaged = make_training(drawn_store, epochs=2, ema=0.9, **ENGINES[engine])
    train(averaged, tmp_path / "averaged", watch())
    state = saved(tmp_path / "averaged")
    assert_equal_bits(state["engine"]["learner"], saved(tmp_path / "plain")["engine"]["learner"])
    assert_equal_bits(averaged.network.state_dict(), state["average"])
    assert_equal_bits(averaged.losses.state_dict(), plain.losses.state_dict())
    name = "stem.1.running_mean"
    assert not torch.equal(averaged.network.state_dict()[name], plain.network.state_dict()[name])


def test_the_averages_are_evaluated_and_kept(drawn_store, tmp_path):
    seen, scores = [], iter([0.5, 0.9, 0.8, 0.7])

    def evaluate(weights, progress):
        seen.append({name: value.clone() for name, value in weights.items()})
        return {"pairs": next(scores)}

    training = make_training(drawn_store, epochs=2, ema=0.9, evaluate_every=2, keep="best")
    metrics = []
    train(replace(training, evaluate=evaluate), tmp_path, watch(metrics))
    assert list(evaluated(metrics)) == [2, 4, 6, 8]
    best = torch.load(tmp_path / "best" / STATE, weights_only=True)
    assert_equal_bits(seen[1], best["average"])
    assert_equal_bits(training.network.state_dict(), seen[1])
    assert not torch.equal(
        seen[1]["stem.0.weight"], best["engine"]["learner"]["network.stem.0.weight"]
    )


@pytest.mark.parametrize("ema", [0.0, 1.0])
def test_a_decay_is_between_0_and_1(ema):
    with pytest.raises(ValidationError, match="ema"):
        TrainSettings(ema=ema)
