"""SeesawFaceNets: their published sizes, and how information crosses the uneven groups."""

import pytest
import torch
from torch import nn

from distill.backbones import create
from distill.backbones.seesaw import UnevenPointwise, quarter_first, quarter_last, shuffled
from distill.counting import count_network
from teachers.layers import SqueezeExcite


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return create(name)


def parameters(module: nn.Module, *kinds: type[nn.Module]) -> int:
    """The parameters inside the submodules of these kinds, each counted once."""
    chosen = (m for m in module.modules() if isinstance(m, kinds))
    return sum(p.numel() for p in {p for m in chosen for p in m.parameters()})


@pytest.mark.parametrize(
    ("name", "params", "convolutions", "madds"),
    [
        ("seesaw_share", 1.370e6, 1.350e6, 145.8e6),
        ("seesaw_shuffle", 1.370e6, 1.350e6, 145.8e6),
        ("seesaw_mobi", 1.407e6, 1.386e6, 111.0e6),
        ("dw_seesaw_v1", 4.181e6, 4.131e6, 513.8e6),
        ("dw_seesaw_v2", 4.247e6, 4.196e6, 526.5e6),
    ],
)
def test_they_have_these_sizes(name: str, params: float, convolutions: float, madds: float):
    counts = count_network(name)
    assert counts.params == pytest.approx(params, abs=0.0006e6)
    assert counts.madds == pytest.approx(madds, abs=0.05e6)
    assert parameters(on_meta(name), nn.Conv2d) == pytest.approx(convolutions, abs=0.0011e6)


def test_a_third_of_seesaw_share_is_squeeze_and_excitation():
    network = on_meta("seesaw_share")
    without = count_network("seesaw_share").params - parameters(network, SqueezeExcite)
    assert without == pytest.approx(0.898e6, abs=0.0005e6)


def test_seesaw_mobi_is_half_of_what_the_paper_prints():
    assert count_network("seesaw_mobi").params < 2.8e6 * 0.51


def test_the_first_deep_block_expands_to_192_channels():
    assert on_meta("dw_seesaw_v1").blocks[0].depthwise[0].out_channels == 192


@pytest.mark.parametrize(("name", "mapped"), [("dw_seesaw_v1", 0), ("dw_seesaw_v2", 3)])
def test_only_v2_has_a_branch_around_its_downsampling_blocks(name: str, mapped: int):
    blocks = on_meta(name).blocks
    shortcuts = [block.shortcut for block in blocks]
    assert sum(isinstance(shortcut, nn.Sequential) for shortcut in shortcuts) == mapped
    strided = [block.depthwise[0].stride == (2, 2) for block in blocks]
    assert sum(strided) == 3
    assert [isinstance(shortcut, nn.Identity) for shortcut in shortcuts] == [
        not strides for strides in strided
    ]


def test_pointwise_groups_are_a_quarter_and_three_quarters():
    layer = UnevenPointwise(16, 32)
    shapes = [tuple(group[0].weight.shape[:2]) for group in (layer.first, layer.second)]
    assert shapes == [(8, 4), (24, 12)]


def test_two_normalised_groups_are_one_block_diagonal_layer():
    torch.manual_seed(0)
    layer = UnevenPointwise(8, 16)
    weights = [group[0].weight.flatten(1) for group in (layer.first, layer.second)]
    x = torch.randn(3, 8, 4, 4)
    whole = nn.functional.conv2d(x, torch.block_diag(*weights)[:, :, None, None])
    expected = nn.functional.batch_norm(whole, None, None, training=True)
    torch.testing.assert_close(layer(x), expected)


def published_shuffle(x: torch.Tensor) -> torch.Tensor:
    batch, channels, height, width = x.shape
    return x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(x.shape)


def test_the_shuffled_groups_are_those_of_the_published_shuffle():
    x = torch.arange(32.0).view(1, 32, 1, 1)
    shuffle = published_shuffle(x).flatten().tolist()
    pieces = torch.arange(32.0).split(shuffled(32))
    assert torch.cat(pieces[::2]).tolist() == sorted(shuffle[:8])
    assert torch.cat(pieces[1::2]).tolist() == sorted(shuffle[8:])


def test_shuffled_groups_are_taken_in_that_order():
    torch.manual_seed(0)
    layer = UnevenPointwise(16, 16, shuffled).eval()
    x = torch.randn(1, 16, 2, 2)
    alone = x.clone()
    alone[:, [0, 1, 8, 9]] = 0
    assert torch.equal(layer(x)[:, 4:], layer(alone)[:, 4:])
    assert not torch.equal(layer(x)[:, :4], layer(alone)[:, :4])


@pytest.mark.parametrize(
    ("name", "crossing"), [("seesaw_share", quarter_last), ("seesaw_shuffle", shuffled)]
)
def test_the_projection_mixes_the_groups_of_the_expansion(name: str, crossing):
    for block in on_meta(name).blocks:
        hidden = block.depthwise[0].out_channels
        assert block.expand.pieces == quarter_first(sum(block.expand.pieces))
        assert block.project.pieces == crossing(hidden)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalisation_is_given_gradients_without_gaps(layout: torch.memory_format):
    layer = UnevenPointwise(8, 16)
    gradients = []
    for group in (layer.first, layer.second):
        group[1].register_full_backward_hook(
            lambda _module, _given, made: gradients.append(made[0])
        )
    layer(torch.randn(2, 8, 4, 4).contiguous(memory_format=layout)).square().sum().backward()
    assert len(gradients) == 2
    assert all(g.is_contiguous(memory_format=layout) for g in gradients)
