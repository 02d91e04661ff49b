"""GhostFaceNets: the sizes printed by their authors, and the layers behind them."""

import pytest
import torch
from torch import nn

from curation.errors import UserError
from distill.backbones import create
from distill.backbones.ghostfacenet import (
    DecoupledAttention,
    GhostModule,
    HardSqueezeExcite,
    divisible,
)
from distill.counting import count_network


def on_meta(name: str, **settings) -> nn.Module:
    with torch.device("meta"):
        return create(name, **settings)


def running_statistics(network: nn.Module) -> int:
    return sum(b.numel() for name, b in network.named_buffers() if "running" in name)


def test_v2_has_the_parameters_of_the_authors_notebook():
    network = on_meta("ghostfacenetv2")
    assert count_network("ghostfacenetv2").params == 6_795_720
    assert running_statistics(network) == 84_568


@pytest.mark.parametrize(
    ("name", "printed"),
    [("ghostfacenetv1", 4.09e6), ("ghostfacenetv1_s2", 4.07e6), ("ghostfacenetv2", 6.88e6)],
)
def test_keras_counts_running_statistics_as_parameters(name: str, printed: float):
    total = count_network(name).params + running_statistics(on_meta(name))
    assert total == pytest.approx(printed, abs=0.005e6)


@pytest.mark.parametrize(
    ("name", "madds"),
    [("ghostfacenetv1", 211.9e6), ("ghostfacenetv1_s2", 59.3e6), ("ghostfacenetv2", 267.1e6)],
)
def test_multiply_additions(name: str, madds: float):
    assert count_network(name).madds == pytest.approx(madds, abs=0.05e6)


@pytest.mark.parametrize(
    ("name", "grid"), [("ghostfacenetv1", (7, 7)), ("ghostfacenetv1_s2", (4, 4))]
)
def test_the_last_map_rounds_up(name: str, grid: tuple[int, int]):
    assert on_meta(name).global_depthwise[0].kernel_size == grid


def test_attention_starts_at_the_third_bottleneck_of_v2():
    def attends(block: nn.Module) -> bool:
        return any(isinstance(layer, DecoupledAttention) for layer in block.modules())

    blocks = on_meta("ghostfacenetv2").bottlenecks
    assert [attends(block) for block in blocks] == [False] * 2 + [True] * 14
    assert not attends(on_meta("ghostfacenetv1"))


def test_half_of_a_ghost_module_is_made_from_the_other_half():
    torch.manual_seed(0)
    module = GhostModule(4, 8, activation=None, attention=False).eval()
    y = module(torch.randn(1, 4, 5, 5))
    assert torch.equal(y[:, 4:], module.cheap(y[:, :4]))


@pytest.mark.parametrize("size", [(6, 6), (7, 7)])
def test_attention_is_a_gate_of_the_size_of_its_input(size: tuple[int, int]):
    torch.manual_seed(0)
    gate = DecoupledAttention(4, 8).eval()(torch.randn(2, 4, *size))
    assert gate.shape == (2, 8, *size)
    assert gate.min() > 0
    assert gate.max() < 1


def test_attention_on_seven_rows_repeats_three_as_keras_does():
    attention = DecoupledAttention(1, 1)
    attention.layers = nn.AvgPool2d(2)
    rows = torch.arange(7.0).view(1, 1, 7, 1).expand(1, 1, 7, 7)
    assert attention(rows)[0, 0, :, 0].tolist() == [0.5, 0.5, 2.5, 2.5, 2.5, 4.5, 4.5]


@pytest.mark.parametrize(("name", "slope"), [("ghostfacenetv1", 0.2), ("ghostfacenetv2", 1 / 6)])
def test_v1_and_v2_have_different_hard_sigmoids(name: str, slope: float):
    gates = [m for m in on_meta(name).modules() if isinstance(m, HardSqueezeExcite)]
    assert [gate.slope for gate in gates] == [slope] * 7


def test_the_gate_is_closed_at_zero_and_open_at_one():
    gate = HardSqueezeExcite(4, slope=0.2)
    nn.init.zeros_(gate.excite.weight)
    gate.excite.bias.data = torch.tensor([-9.0, 0.0, 1.0, 9.0])
    x = torch.ones(1, 4, 2, 2)
    torch.testing.assert_close(gate(x)[0, :, 0, 0], torch.tensor([0.0, 0.5, 0.7, 1.0]))


@pytest.mark.parametrize(("channels", "rounded"), [(20.8, 20), (31.2, 32), (665.6, 664), (2, 4)])
def test_channels_are_multiples_of_four(channels: float, rounded: int):
    assert divisible(channels) == rounded


def test_images_must_leave_a_map_to_attend_to():
    with pytest.raises(UserError, match="16x16 is too small"):
        on_meta("ghostfacenetv2", input_size=(16, 16))
