"""MNAS-1.25: insightface's fmnasnet against Bitmain's Table 2."""

import pytest
import torch

from distill.backbones import create
from distill.backbones.bottleneck import Bottleneck
from distill.counting import count_network


def test_counts():
    counts = count_network("mnasnet_125")
    assert counts.params == pytest.approx(4.98e6, abs=0.005e6)
    assert counts.madds == pytest.approx(460.2e6, abs=0.05e6)
    assert counts.lfr_flops / 2**20 == pytest.approx(873.6, abs=0.05)
    assert counts.size_mib == pytest.approx(18.99, abs=0.005)


def test_only_bottlenecks_that_halve_the_map_have_kernels_of_5():
    with torch.device("meta"):
        features = create("mnasnet_125").features
    depthwise = [layer.depthwise[0] for layer in features if isinstance(layer, Bottleneck)]
    assert [(d.kernel_size[0], d.stride[0]) for d in depthwise] == [
        (3, 2), (3, 1), (3, 1),
        (5, 2), (3, 1), (3, 1),
        (5, 2), (3, 1), (3, 1),
        (3, 1), (3, 1),
        (5, 2), (3, 1), (3, 1), (3, 1),
        (3, 1),
    ]  # fmt: skip


def test_channels_are_the_published_ones_multiples_of_8_or_not():
    with torch.device("meta"):
        features = create("mnasnet_125").features
    assert [features[0][0].out_channels, features[2][0].out_channels] == [40, 20]
    widths = [layer.project[0].out_channels for layer in features if isinstance(layer, Bottleneck)]
    assert sorted(set(widths)) == [30, 50, 100, 120, 240, 400]
