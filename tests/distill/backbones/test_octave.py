"""Octave convolution compared with a slow, obvious one, and Bitmain's octave networks."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from distill.backbones import create
from distill.backbones.octave import (
    DepthwiseOctaveConv,
    OctaveConv,
    OctaveNorm,
    add,
    split_channels,
)
from distill.counting import count_network
from teachers.layers import relu

MEBI = 2**20


def slow_convolution(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """Stride 1, output as large as the input, one number at a time."""
    weight, margin = layer.weight, layer.kernel_size[0] // 2
    padded = nn.functional.pad(x, [margin] * 4)
    out, per_group = weight.shape[0], weight.shape[1]
    result = torch.zeros(len(x), out, *x.shape[2:])
    for channel, row, column in itertools.product(range(out), *map(range, x.shape[2:])):
        first = channel // (out // layer.groups) * per_group
        patch = padded[:, first : first + per_group, row : row + 2 * margin + 1]
        patch = patch[..., column : column + 2 * margin + 1]
        result[:, channel, row, column] = (patch * weight[channel]).sum((1, 2, 3))
    return result


def halved(x: Tensor) -> Tensor:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def slow_octave(layer: OctaveConv, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    if layer.stride == 1:
        rising, falling, staying = doubled, halved(high), low
    else:
        high, falling, staying = halved(high), halved(halved(high)), halved(low)
        rising = lambda x: x  # noqa: E731
    new_high = slow_convolution(high, layer.high_to_high)
    new_high += rising(slow_convolution(low, layer.low_to_high))
    new_low = slow_convolution(falling, layer.high_to_low)
    new_low += slow_convolution(staying, layer.low_to_low)
    return new_high, new_low


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 1, 1), (3, 1, 2), (3, 2, 1)])
@torch.no_grad()
def test_an_octave_convolution_is_four_convolutions(kernel, stride, groups):
    torch.manual_seed(0)
    layer = OctaveConv(8, 16, 0.5, 0.25, kernel, stride, groups)
    high, low = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 4, 4)
    for ours, expected in zip(layer((high, low)), slow_octave(layer, high, low), strict=True):
        assert torch.allclose(ours, expected, atol=1e-5)
    assert layer((high, low))[0].shape == (2, 12, 8 // stride, 8 // stride)
    assert layer((high, low))[1].shape == (2, 4, 4 // stride, 4 // stride)


@torch.no_grad()
def test_without_low_frequencies_it_convolves_pooled_maps():
    torch.manual_seed(0)
    layer = OctaveConv(4, 8, 0.0, 0.0, kernel=3, stride=2)
    high = torch.randn(2, 4, 8, 8)
    new_high, new_low = layer((high, None))
    assert new_low is None
    assert torch.allclose(new_high, slow_convolution(halved(high), layer.high_to_high), atol=1e-5)


def test_the_first_and_the_last_layer_have_two_paths():
    first, last = OctaveConv(8, 8, 0.0, 0.5), OctaveConv(8, 8, 0.5, 0.0)
    assert set(dict(first.named_parameters())) == {"high_to_high.weight", "high_to_low.weight"}
    assert set(dict(last.named_parameters())) == {"high_to_high.weight", "low_to_high.weight"}


def test_an_octave_has_as_many_weights_as_a_plain_layer():
    octave = OctaveConv(64, 32, 0.25, 0.25, kernel=3)
    assert sum(p.numel() for p in octave.parameters()) == 64 * 32 * 9


def test_groups_divide_the_channels_of_each_path():
    layer = OctaveConv(32, 32, 0.375, 0.375, kernel=3, groups=8)  # 20 high and 12 low channels
    assert layer.high_to_high.groups == 4
    assert layer.low_to_low.groups == 4


@torch.no_grad()
def test_a_depthwise_convolution_leaves_the_frequencies_apart():
    torch.manual_seed(0)
    layer = DepthwiseOctaveConv(8, 0.5, stride=2)
    high, low = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4, 4)
    new_high, new_low = layer((high, low))
    assert torch.allclose(new_high, slow_convolution(halved(high), layer.high), atol=1e-6)
    assert torch.allclose(new_low, slow_convolution(halved(low), layer.low), atol=1e-6)


def test_each_frequency_has_its_own_normalisation():
    norm = OctaveNorm(8, 0.25, relu)
    high, low = norm((torch.randn(2, 6, 4, 4), torch.randn(2, 2, 2, 2)))
    assert high.min() == 0
    assert low.min() == 0
    assert (norm.high[0].num_features, norm.low[0].num_features) == (6, 2)


def test_split_and_sum():
    high, low = torch.ones(1), torch.ones(1)
    assert split_channels(64, 0.375) == (40, 24)
    assert add((high, low), (high, low)) == (2, 2)
    assert add((high, None), (high, None)) == (2, None)


@pytest.mark.parametrize(
    ("name", "size_mib", "lfr_mebiflops"),
    [
        ("oct_resnet_neck", 17, 963),
        ("oct_resnet_a", 19, 856),
        ("oct_resnet_b", 20, 976),
        ("oct_mobilefacenet_a", 19, 963),
        ("oct_mobilefacenet_b", 15, 897),
    ],
)
def test_octave_networks_are_near_their_published_size(name, size_mib, lfr_mebiflops):
    counts = count_network(name)
    assert counts.size_mib == pytest.approx(size_mib, rel=0.025)
    assert counts.size_mib < 20
    assert counts.lfr_flops / MEBI == pytest.approx(lfr_mebiflops, rel=0.025)


def test_the_neck_has_the_published_depths():
    with torch.device("meta"):
        blocks = create("oct_resnet_neck").blocks
    widths = [block.layers[4].high_to_high.out_channels for block in blocks]
    highs = [(5 * 64 // 8, 3), (5 * 128 // 8, 8), (5 * 256 // 8, 36), (512, 3)]
    assert widths == [high for high, repeats in highs for _ in range(repeats)]


@pytest.mark.parametrize("name", ["oct_resnet_a", "oct_mobilefacenet_a"])
@pytest.mark.parametrize("size", [(16, 16), (48, 80)])
def test_every_multiple_of_16_is_an_input_size(name, size):
    network = create(name, embedding=8, input_size=size, width=0.125).eval()
    assert network(torch.randn(1, 3, *size)).shape == (1, 8)
