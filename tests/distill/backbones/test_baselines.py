"""The baselines of MobileFaceNets: MobileNetV1, ShuffleNet and MobileNetV2."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from distill.backbones import NETWORKS, create
from distill.backbones.shufflenet import ShuffleUnit, shuffle
from distill.counting import count_network

SMALL = {"input_size": (32, 32), "width": 0.125}
BASELINES = ["mobilenetv1", "mobilenetv2", "mobilenetv2_gdconv", "shufflenet"]


@pytest.mark.parametrize(
    ("name", "params", "madds"),
    [
        ("mobilenetv1", 3.207e6, 567.7e6),
        ("shufflenet", 0.905e6, 136.5e6),
        ("mobilenetv2", 2.224e6, 299.5e6),
        ("mobilenetv2_gdconv", 2.289e6, 299.6e6),
    ],
)
def test_counts(name: str, params: float, madds: float):
    counts = count_network(name)
    assert counts.params == pytest.approx(params, abs=0.0006e6)
    assert counts.madds == pytest.approx(madds, abs=0.06e6)


def test_the_global_convolution_costs_what_the_paper_says():
    pooled, depthwise = count_network("mobilenetv2"), count_network("mobilenetv2_gdconv")
    assert depthwise.madds - pooled.madds == 62720
    assert depthwise.params - pooled.params == 62720 + 2 * 1280


@pytest.mark.parametrize("name", BASELINES)
def test_the_first_map_keeps_the_size_and_the_last_is_7x7(name: str):
    sizes = []
    network = create(name, width=0.125).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *call: sizes.append(tuple(call[2].shape[2:])))
    with torch.no_grad():
        network(torch.zeros(1, 3, 112, 112))
    assert sizes[0] == (112, 112)
    assert (7, 7) in sizes
    assert min(sizes) in [(7, 7), (1, 1)]


@pytest.mark.parametrize("name", BASELINES)
def test_global_features_are_the_embedding_by_default(name: str):
    with torch.device("meta"):
        paper = create(name)
        shorter = create(name, embedding=128)
    assert not list(paper.embedding.parameters())
    assert shorter.embedding[0].in_features == NETWORKS[name].embedding
    assert shorter.embedding[0].out_features == 128


def test_mobilenetv1_gives_means_of_its_last_map():
    torch.manual_seed(0)
    network = create("mobilenetv1", embedding=128, **SMALL).eval()
    images = torch.randn(2, 3, 32, 32)
    last = network.features(images)
    assert last.shape == (2, 128, 2, 2)
    torch.testing.assert_close(network(images), last.flatten(2).mean(2))


def test_a_shuffle_of_three_groups_by_hand():
    channels = torch.arange(12.0).view(1, 12, 1, 1)
    shuffled = shuffle(channels, 3).flatten().tolist()
    assert shuffled == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]


@pytest.mark.parametrize(("stride", "groups_first"), [(1, 3), (2, 1), (2, 3)])
def test_a_shuffle_unit_step_by_step(stride: int, groups_first: int):
    torch.manual_seed(0)
    unit = ShuffleUnit(24, 24 if stride == 1 else 48, stride, groups_first).eval()
    x = torch.randn(2, 24, 8, 8)
    y = F.relu(unit.compress[1](unit.compress[0](x)))
    y = torch.stack([y[:, group :: y.shape[1] // 3] for group in range(y.shape[1] // 3)], 1)
    y = unit.depthwise[1](unit.depthwise[0](y.flatten(1, 2)))
    y = unit.expand[1](unit.expand[0](y))
    joined = x + y if stride == 1 else torch.cat((F.avg_pool2d(x, 3, 2, padding=1), y), 1)
    torch.testing.assert_close(unit(x), F.relu(joined))


def test_only_shufflenets_first_pointwise_is_not_grouped():
    with torch.device("meta"):
        units = create("shufflenet").units
    assert [unit.compress[0].groups for unit in units] == [1] + [3] * 15
    assert {unit.expand[0].groups for unit in units} == {3}
    assert [unit.stride for unit in units] == [2, 1, 1, 1, 2] + [1] * 7 + [2, 1, 1, 1]


def test_mobilenetv2_begins_without_expansion_with_relu6():
    with torch.device("meta"):
        features = create("mobilenetv2").features
    shapes = [tuple(features[i][0].weight.shape) for i in range(3)]
    assert shapes == [(32, 3, 3, 3), (32, 1, 3, 3), (16, 32, 1, 1)]
    kinds = {type(module).__name__ for module in features.modules()}
    assert "ReLU6" in kinds
    assert not kinds & {"ReLU", "PReLU"}
