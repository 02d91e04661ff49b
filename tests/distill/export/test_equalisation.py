"""Equalising channels and shrinking graphs do not change the results."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from distill.export.compaction import compacted, half_slopes
from distill.export.equalisation import channel_factors, equalised, joints
from distill.export.golden import cosines
from distill.export.quantisation import RunningGraph, calibrate, layers, named, quantise
from distill.export.source import ExportSource
from teachers.preprocessing import Preprocessing

SIZE = (16, 16)
CHANNELS = 24


class Uneven(nn.Module):
    """A bottleneck whose channels have ranges from 1 to 1000, with a shortcut around it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, 2, 1)
        self.expand, self.first = nn.Conv2d(CHANNELS, CHANNELS, 1), nn.PReLU(CHANNELS)
        self.depthwise = nn.Conv2d(CHANNELS, CHANNELS, 3, 1, 1, groups=CHANNELS)
        self.second, self.project = nn.PReLU(CHANNELS), nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.last = nn.Linear(CHANNELS * 64, 32)
        uneven = torch.logspace(0, 3, CHANNELS)[torch.randperm(CHANNELS)]
        with torch.no_grad():
            self.expand.weight *= uneven[:, None, None, None]
            self.depthwise.weight /= uneven[:, None, None, None]
            self.first.weight.uniform_(0, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.second(self.depthwise(self.first(self.expand(x))))
        return self.last((x + self.project(y)).flatten(1))


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    torch.manual_seed(0)
    return named(ExportSource(Uneven().eval(), Preprocessing.ours(SIZE)).onnx)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((32, 3, *SIZE), np.float32)


def test_only_tensors_with_a_single_reader_are_scaled(model):
    kinds = [(each.before.name, each.after.name) for each in joints(model)]
    expand, depthwise, project = (node.name for node in layers(model)[1:4])
    assert kinds == [(expand, depthwise), (depthwise, project)]


def test_equalisation_does_not_change_the_embeddings(model, pixels):
    expected = RunningGraph(model)(pixels)
    found = RunningGraph(equalised(model, [pixels[:8]]))(pixels)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_an_equalised_network_loses_less_in_int8(model, pixels):
    expected, names = RunningGraph(model)(pixels), [node.name for node in layers(model)]

    def lost(each: onnx.ModelProto) -> float:
        made = quantise(each, calibrate(each, [pixels]), names, weights=True)
        return 1 - cosines(RunningGraph(made)(pixels), expected).mean()

    assert lost(equalised(model, [pixels])) < lost(model) / 3


def test_a_depthwise_layer_gets_channels_with_equal_ranges():
    ranges = np.array([1.0, 10.0, 100.0])
    factors = channel_factors(ranges, np.ones((3, 1, 3, 3)))
    np.testing.assert_allclose(ranges / factors, 10, rtol=1e-6)


def test_a_full_layer_takes_half_of_the_difference():
    ranges = np.array([1.0, 100.0])
    np.testing.assert_allclose(channel_factors(ranges, np.ones((4, 2, 1, 1))), [0.316, 3.16], 1e-2)


def test_an_unused_channel_gets_a_bounded_factor():
    factors = channel_factors(np.array([0.0, 1.0]), np.zeros((2, 1, 3, 3)))
    assert np.isfinite(factors).all()
    assert factors.max() / factors.min() <= 101


def test_a_compact_graph_computes_the_same_in_fewer_bytes(model, pixels):
    made = quantise(model, {}, [], weights=True)
    small = compacted(made)
    onnx.checker.check_model(small)
    np.testing.assert_array_equal(RunningGraph(small)(pixels), RunningGraph(made)(pixels))
    layers_there = len(layers(model))
    assert small.ByteSize() < made.ByteSize() - 100 * layers_there
    for part in ("input", "output"):
        assert list(getattr(small.graph, part)) == list(getattr(made.graph, part))


def test_a_compact_graph_keeps_metadata_and_other_attributes(model):
    model.metadata_props.add(key="colour", value="RGB")
    small = compacted(model)
    assert [each.value for each in small.metadata_props] == ["RGB"]
    stem = small.graph.node[0]
    said = {each.name: onnx.helper.get_attribute_value(each) for each in stem.attribute}
    assert said == {"strides": [2, 2], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}


def test_float16_slopes_take_half_of_the_bytes(model, pixels):
    half = half_slopes(model)
    kinds = [each.data_type for each in half.graph.initializer]
    assert kinds.count(onnx.TensorProto.FLOAT16) == 2
    np.testing.assert_allclose(
        RunningGraph(half)(pixels), RunningGraph(model)(pixels), rtol=0.02, atol=0.02
    )
