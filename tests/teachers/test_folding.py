"""A folded network has fewer layers and computes the same."""

import copy

import pytest
import torch
from torch import Tensor, nn

from teachers.folding import fold


def settled(network: nn.Module) -> nn.Module:
    """The network with statistics and scales that differ from initial ones."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.weight is not None:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
def test_layers_take_up_the_norm_after_them(bias, affine):
    torch.manual_seed(0)
    network = settled(nn.Sequential(
        nn.Conv2d(4, 8, 3, groups=2, bias=bias), nn.BatchNorm2d(8, affine=affine), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 16, 5, bias=bias), nn.BatchNorm1d(5, eps=2e-5, affine=affine),
    ))  # fmt: skip
    images = torch.randn(3, 4, 6, 6)
    folded = fold(network)
    assert norms(folded) == 0
    torch.testing.assert_close(folded(images), network(images), rtol=1e-5, atol=1e-5)


def test_the_network_itself_stays_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    before = copy.deepcopy(network.state_dict())
    fold(network)
    assert network.training
    assert norms(network) == 1
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_norm_before_a_padded_convolution_stays():
    network = settled(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1)))
    images = torch.randn(1, 3, 5, 5)
    assert norms(fold(network)) == 1
    assert torch.equal(fold(network)(images), network(images))


class UsedTwice(nn.Module):
    """The output of the convolution is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        return y + self.norm(y)


class SharedWeights(nn.Module):
    """One convolution before two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.convolution(self.first(self.convolution(x))))


@pytest.mark.parametrize("kind", [UsedTwice, SharedWeights])
def test_a_convolution_that_others_need_stays_unchanged(kind):
    torch.manual_seed(0)
    network = settled(kind())
    images = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(fold(network)(images), network(images))


def test_a_network_with_nothing_to_fold_is_copied():
    network = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    folded = fold(network)
    assert type(folded) is nn.Sequential
    assert folded is not network


class DataDependent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_cannot_be_traced_comes_back_unfolded():
    assert fold(DataDependent())(-torch.ones(2)).sum() == 2


def test_timms_norm_is_folded_and_its_activation_stays():
    from timm.layers import BatchNormAct2d

    torch.manual_seed(0)
    network = settled(nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4)))
    images = torch.randn(2, 3, 6, 6)
    folded = fold(network)
    assert norms(folded) == 0
    assert folded(images).min() == 0
    torch.testing.assert_close(folded(images), network(images))


class Branches(nn.Module):
    """Convolutions of the same input, and the input itself, added."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d, shortcut: bool) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.norm = nn.BatchNorm2d(first.out_channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x) + self.second(x))
        return x + y if self.shortcut else y


def convolutions(network: nn.Module) -> int:
    return sum(isinstance(m, nn.Conv2d) for m in network.modules())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernels", [(3, 1), (1, 3), (5, 3), (1, 1)])
@pytest.mark.parametrize(("stride", "shortcut"), [(1, True), (1, False), (2, False)])
def test_branches_and_shortcut_become_one_convolution(kernels, groups, bias, stride, shortcut):
    torch.manual_seed(0)
    pair = [nn.Conv2d(4, 4, k, stride, k // 2, groups=groups, bias=bias) for k in kernels]
    network = settled(Branches(*pair, shortcut))
    images = torch.randn(2, 4, 6, 6)
    folded = fold(network)
    assert (convolutions(folded), norms(folded)) == (1, 0)
    assert "add" not in folded.code
    torch.testing.assert_close(folded(images), network(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        {"kernel_size": 1, "groups": 2},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": (1, 3), "padding": (0, 1)},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 3, "padding": "same"},
    ],
)
def test_branches_of_another_kind_stay(other):
    torch.manual_seed(0)
    network = settled(Branches(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, **other), False))
    images = torch.randn(2, 4, 6, 6)
    assert convolutions(fold(network)) == 2
    torch.testing.assert_close(fold(network)(images), network(images))


def test_a_norm_before_a_fully_connected_layer_goes_into_it():
    torch.manual_seed(0)
    network = settled(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(6), nn.Linear(6, 3)))
    images = torch.randn(4, 6, 1, 1)
    assert norms(fold(network)) == 0
    torch.testing.assert_close(fold(network)(images), network(images), rtol=1e-5, atol=1e-5)
