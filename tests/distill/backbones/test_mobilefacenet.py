"""MobileFaceNet and its variants against Tables 1 and 2 of the paper."""

import math

import pytest
import torch
from torch import nn

from distill.backbones import NETWORKS, create
from distill.counting import count_network
from teachers.networks import head_parameters


@pytest.mark.parametrize(
    ("name", "params", "madds"),
    [
        ("mobilefacenet", 1.003e6, 221.0e6),
        ("mobilefacenet_112x96", 1.000e6, 189.4e6),
        ("mobilefacenet_96x96", 0.997e6, 162.4e6),
        ("mobilefacenet_m", 0.937e6, 220.9e6),
        ("mobilefacenet_s", 0.851e6, 217.7e6),
        ("mobilefacenet_relu", 0.996e6, 221.0e6),
        ("mobilefacenet_expansion_x2", 1.142e6, 237.2e6),
        ("mobilefacenet_512", 1.200e6, 221.2e6),
    ],
)
def test_counts(name: str, params: float, madds: float):
    counts = count_network(name)
    assert counts.params == pytest.approx(params, abs=0.0006e6)
    assert counts.madds == pytest.approx(madds, abs=0.06e6)


@pytest.mark.parametrize(
    ("name", "printed", "digits"),
    [
        ("mobilefacenet", 0.99, 2),
        ("mobilefacenet_relu", 0.98, 2),
        ("mobilefacenet_m", 0.92, 2),
        ("mobilefacenet_s", 0.84, 2),
        ("mobilefacenet_expansion_x2", 1.1, 1),
    ],
)
def test_the_paper_counts_folded_parameters_cut_to_digits(name: str, printed: float, digits: int):
    with torch.device("meta"):
        network = create(name)
    # Of the scale and shift of a normalisation, folding leaves a bias of the convolution.
    scales = sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    folded = sum(p.numel() for p in network.parameters()) - scales
    assert math.floor(folded / 1e6 * 10**digits) / 10**digits == printed


@pytest.mark.parametrize(
    ("name", "grid", "channels"),
    [
        ("mobilefacenet", (7, 7), 512),
        ("mobilefacenet_112x96", (7, 6), 512),
        ("mobilefacenet_96x96", (6, 6), 512),
        ("mobilefacenet_s", (7, 7), 128),
    ],
)
def test_the_global_convolution_covers_the_whole_last_map(name, grid, channels):
    with torch.device("meta"):
        convolution = create(name).global_depthwise[0]
    assert NETWORKS[name].input_size == (grid[0] * 16, grid[1] * 16)
    assert convolution.kernel_size == grid
    assert convolution.groups == convolution.out_channels == channels


@pytest.mark.parametrize("name", ["mobilefacenet_m", "mobilefacenet_s"])
def test_m_and_s_end_in_the_global_convolution(name: str):
    with torch.device("meta"):
        network = create(name, embedding=96).eval()
        assert network(torch.zeros(1, 3, 112, 112)).shape == (1, 96)
    assert not list(head_parameters(network))
    *_, last = (m for m in network.modules() if isinstance(m, nn.Conv2d))
    assert last is network.global_depthwise[0]


def test_only_s_has_no_pointwise_before_the_global_layer():
    with torch.device("meta"):
        convolutions = {
            name: [m for m in create(name).modules() if isinstance(m, nn.Conv2d)]
            for name in ("mobilefacenet", "mobilefacenet_m", "mobilefacenet_s")
        }
    lengths = {name: len(layers) for name, layers in convolutions.items()}
    assert lengths == {"mobilefacenet": 50, "mobilefacenet_m": 49, "mobilefacenet_s": 48}


def test_the_relu_variant_has_no_slopes():
    kinds = {type(module).__name__ for module in create("mobilefacenet_relu").modules()}
    assert "ReLU" in kinds
    assert "PReLU" not in kinds


def test_one_expansion_is_doubled_in_expansion_x2():
    with torch.device("meta"):
        expansions = {
            name: [
                block.expand[0].out_channels // block.expand[0].in_channels
                for block in create(name).bottlenecks
            ]
            for name in ("mobilefacenet", "mobilefacenet_expansion_x2")
        }
    assert expansions["mobilefacenet"] == [2] * 5 + [4] + [2] * 6 + [4] + [2] * 2
    assert expansions["mobilefacenet_expansion_x2"] == [2] * 5 + [4] + [2] * 6 + [8] + [2] * 2
