"""Narrow networks train on the CPU in spite of oneDNN's strided 1x1 convolutions."""

import copy

import pytest
import torch
from torch import nn

from distill.backbones import create
from distill.training.strided_convolutions import SubsampledConv2d, subsample_narrow_convolutions


@pytest.mark.parametrize("stride", [2, (2, 1), 3], ids=["both", "rows", "three"])
@pytest.mark.parametrize("bias", [False, True], ids=["no-bias", "bias"])
def test_a_replaced_layer_has_the_same_output_and_gradients(stride, bias):
    reference = nn.Conv2d(6, 16, 1, stride, bias=bias).double()
    replaced = nn.Sequential(copy.deepcopy(reference))
    subsample_narrow_convolutions(replaced)
    assert isinstance(replaced[0], SubsampledConv2d)
    for side in (7, 8):
        x = torch.randn(3, 6, side, side, dtype=torch.float64)  # contiguous: not affected
        for network in (reference, replaced):
            network.zero_grad()
            network(x).square().sum().backward()
        torch.testing.assert_close(replaced(x), reference(x))
        expected = [each.grad for each in reference.parameters()]
        torch.testing.assert_close([each.grad for each in replaced.parameters()], expected)


def test_only_narrow_strided_pointwise_layers_are_replaced():
    layers = nn.Sequential(
        nn.Conv2d(8, 8, 1),
        nn.Conv2d(16, 8, 1, 2),
        nn.Conv2d(8, 8, 3, 2),
        nn.Conv2d(8, 8, 1, 2, padding=1),
        nn.Conv2d(8, 8, 1, 2, groups=8),
        nn.Conv2d(8, 8, 1, 2),
    )
    names = list(layers.state_dict())
    subsample_narrow_convolutions(layers)
    replaced = [index for index, each in enumerate(layers) if isinstance(each, SubsampledConv2d)]
    assert replaced == [5]
    assert list(layers.state_dict()) == names


def test_a_narrow_iresnet_gets_gradients_in_channels_last_layout():
    network = create("iresnet18", embedding=64, input_size=(64, 64), width=0.125)
    subsample_narrow_convolutions(network.train().to(memory_format=torch.channels_last))
    images = torch.randn(32, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    network(images).square().mean().backward()
    assert all(each.grad.isfinite().all() for each in network.parameters() if each.requires_grad)
