"""A small network, its trainings, and helpers to inspect them."""

import torch
from torch import nn

from distill.backbones import create
from distill.losses import WeightedLosses, parse_losses
from distill.training.checkpoints import newest_checkpoint
from distill.training.config import TrainSettings
from distill.training.loop import Training, Watch
from distill.training.state_file import STATE
from teachers.preprocessing import Preprocessing

PREPROCESSING = Preprocessing.ours((32, 32))
EMBEDDING = 16
ENGINES = {
    "torch": {},
    "zero 0": {"engine": "deepspeed"},
    "zero 1": {"engine": "deepspeed", "zero_stage": 1},
    "zero 2": {"engine": "deepspeed", "zero_stage": 2},
}


class Plain(nn.Module):
    """A network without batch normalisation, whose gradients do not depend on micro-batches."""

    after_global = ()

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 8, 3, stride=4)
        self.linear = nn.Linear(8 * 8 * 8, EMBEDDING)

    def forward(self, x):
        return self.linear(torch.relu(self.convolution(x)).flatten(1))


def make_network(seed=0):
    torch.manual_seed(seed)
    return create("mobilefacenet", EMBEDDING, (32, 32), 0.125)


def make_training(store, cache=None, losses=None, epochs=4, **settings):
    chosen = parse_losses(losses or {"arcface": {"scale": 16.0, "margin": 0.2}}, "losses")
    defaults = {"batch_size": 12, "learning_rate": 0.1, "log_every": 1, "checkpoint_every": 3}
    network = make_network()
    torch.manual_seed(1)
    return Training(
        network=network,
        losses=WeightedLosses(chosen, EMBEDDING, store.identities),
        preprocessing=PREPROCESSING,
        images=store,
        cache=cache,
        epochs=epochs,
        settings=TrainSettings(**{**defaults, **settings}),
    )


def watch(metrics=None, stop=lambda: False):
    return Watch((metrics if metrics is not None else []).append, lambda done, total: None, stop)


def weights(training):
    return {**training.network.state_dict(), **training.losses.state_dict()}


def assert_equal_bits(left, right):
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


def engine_state(folder):
    return torch.load(newest_checkpoint(folder) / STATE, weights_only=True)["engine"]


def evaluated(metrics):
    """The scores by step."""
    return {line["iteration"]: line["score"] for line in metrics if "score" in line}
