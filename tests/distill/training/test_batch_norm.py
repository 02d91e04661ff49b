"""Synchronised batch normalisation equals PyTorch's in a group of one; test_ranks.py has two."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn

from curation.errors import UserError
from distill.training.batch_norm import synchronise_batch_norm

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def group():
    """The group of this process alone, unless a test of DeepSpeed has left one."""
    if dist.is_initialized():
        yield
        return
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def batch_norm_with_activation(channels):
    from timm.layers import BatchNormAct2d

    return BatchNormAct2d(channels)


def without_weights(channels):
    return nn.BatchNorm2d(channels, affine=False)


def both(kind):
    """A layer, original and synchronised."""
    torch.manual_seed(0)
    plain = nn.Sequential(kind(6)).train()
    if plain[0].affine:
        nn.init.uniform_(plain[0].weight, 0.5, 2)
        nn.init.normal_(plain[0].bias)
    synchronised = copy.deepcopy(plain)
    synchronise_batch_norm(synchronised, CPU)
    assert type(synchronised[0]) is not type(plain[0])
    return plain, synchronised


def outcome(network, x, weights):
    """Output, all gradients and all statistics of one training step."""
    x = x.clone().requires_grad_()
    y = network(x)
    (y * weights).sum().backward()
    gradients = [x.grad, *(parameter.grad for parameter in network.parameters())]
    return [y.detach(), *gradients, *network.buffers()]


@pytest.mark.parametrize(
    ("kind", "shape", "layout"),
    [
        (nn.BatchNorm1d, (7, 6), torch.contiguous_format),
        (nn.BatchNorm2d, (5, 6, 4, 3), torch.contiguous_format),
        (nn.BatchNorm2d, (5, 6, 4, 3), torch.channels_last),
        (batch_norm_with_activation, (5, 6, 4, 3), torch.channels_last),
        (without_weights, (5, 6, 4, 3), torch.channels_last),
    ],
    ids=["1d", "2d", "channels-last", "with-activation", "without-weights"],
)
def test_outputs_gradients_and_statistics_are_those_of_pytorch(kind, shape, layout):
    plain, synchronised = both(kind)
    x = (torch.randn(shape) * 3 + 1).contiguous(memory_format=layout)
    weights = torch.randn(shape)
    expected = outcome(plain, x, weights)
    for value, wanted in zip(outcome(synchronised, x, weights), expected, strict=True):
        assert torch.allclose(value, wanted, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_as_near_as_pytorch():
    plain, synchronised = both(nn.BatchNorm2d)
    x, weights = torch.randn(5, 6, 4, 3).bfloat16(), torch.randn(5, 6, 4, 3).bfloat16()
    expected = outcome(plain, x, weights)
    for value, wanted in zip(outcome(synchronised, x, weights), expected, strict=True):
        assert value.dtype == wanted.dtype
        assert torch.allclose(value.float(), wanted.float(), rtol=0.05, atol=0.05)


def test_evaluation_uses_the_layer_itself():
    plain, synchronised = both(nn.BatchNorm2d)
    x = torch.randn(2, 6, 4, 4)
    assert torch.equal(synchronised.eval()(x), plain.eval()(x))


def test_names_and_parameters_stay():
    plain, synchronised = both(nn.BatchNorm2d)
    assert plain.state_dict().keys() == synchronised.state_dict().keys()


def test_a_kind_that_cannot_be_synchronised_is_refused():
    with pytest.raises(UserError, match=r"0 is a BatchNorm3d.*allowed: false"):
        synchronise_batch_norm(nn.Sequential(nn.BatchNorm3d(2)), CPU)
