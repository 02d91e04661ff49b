"""FaceLiVT: the printed sizes, its two ways of mixing positions, and its checkpoint names."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from curation.errors import UserError
from distill.backbones import create
from distill.backbones.facelivt import (
    LinearAttention,
    LiteLinearAttention,
    RepConv,
    SoftmaxAttention,
)
from distill.counting import count_network
from teachers.checkpoints import load_checkpoint
from teachers.folding import fold


def on_meta(name: str, **settings) -> nn.Module:
    with torch.device("meta"):
        return create(name, **settings)


def randomised(network: nn.Module) -> nn.Module:
    """In evaluation, with random weights and statistics, so that no branch is zero."""
    for value in network.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if value.ndim == 1 else value + 0.01)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "params", "merged", "madds"),
    [
        ("facelivt_s_sa", 5_915_576, 5_891_464, 225_169_760),
        ("facelivt_m_sa", 14_343_872, 14_306_368, 552_013_568),
        ("facelivt_s", 5_070_616, 5_055_976, 158_105_440),
        ("facelivt_m", 9_769_888, 9_745_696, 382_484_224),
        ("facelivtv2_xs", 2_993_536, 2_969_552, 89_045_824),
        ("facelivtv2_s", 4_653_616, 4_621_424, 177_636_544),
        ("facelivtv2_m", 7_057_192, 7_018_400, 256_003_456),
        ("facelivtv2_l", 8_869_216, 8_825_360, 330_833_472),
    ],
)
def test_they_have_the_sizes_of_the_authors_code(name: str, params: int, merged: int, madds: int):
    counts = count_network(name)
    assert (counts.params, counts.madds) == (params, madds)
    assert sum(p.numel() for p in fold(create(name)).parameters()) == merged


def test_of_every_convolution_with_a_branch_one_is_left():
    torch.manual_seed(0)
    network = randomised(create("facelivtv2_xs", 16, (32, 48)))
    folded = fold(network)
    images = torch.randn(2, 3, 32, 48)
    torch.testing.assert_close(folded(images), network(images), rtol=1e-4, atol=1e-4)

    def count(of: nn.Module, kind: type) -> int:
        return sum(isinstance(m, kind) for m in of.modules())

    branches = count(network, RepConv)
    assert branches == 2 + 3 + 18
    assert count(folded, nn.Conv2d) == count(network, nn.Conv2d) - branches
    assert count(folded, nn.BatchNorm1d) == count(folded, nn.BatchNorm2d) == 0


def test_the_authors_names_of_layers():
    v1, attention, v2 = (
        {key: tuple(value.shape) for key, value in on_meta(name).state_dict().items()}
        for name in ("facelivt_s", "facelivt_s_sa", "facelivtv2_s")
    )
    assert v1["patch_embedds.0.stem.1.0.repconv.weight"] == (40, 20, 1, 1)
    assert v1["patch_embedds.2.spatial.0.conv.weight"] == (80, 1, 3, 3)
    assert v1["patch_embedds.3.channel.m.pw1.c.weight"] == (640, 320, 1, 1)
    assert v1["stages.2.blocks.5.block.0.m.linear1.15.weight"] == (196, 49)
    assert v1["stages.3.blocks.1.block.0.m.norm.weight"] == (320,)
    assert v1["head.classifier.l.weight"] == (512, 320)
    assert attention["stages.2.blocks.0.block.0.m.qkv_proj.c.weight"] == (864, 160, 1, 1)
    assert v2["stages.2.blocks.8.block.0.m.conv.weight"] == (192, 1, 3, 3)
    assert v2["stages.2.blocks.8.block.1.m.norm.alpha"] == (1, 192, 1)
    assert v2["stages.3.blocks.2.block.1.m.ls"] == (320, 1, 1)
    assert v2["stages.3.blocks.2.block.1.m.lin.3.bias"] == (16,)
    assert v2["pre_head.1.c.weight"] == (1284, 1, 4, 4)
    assert v2["head.classifier.bn.running_var"] == (1284,)
    assert (len(v1), len(attention), len(v2)) == (856, 424, 628)


def test_a_checkpoint_of_the_authors_program_loads_by_name(tmp_path):
    torch.manual_seed(0)
    saved, network = (create("facelivt_s", 8, (32, 32), width=0.25).eval() for _ in range(2))
    weights = {f"module.{key}": value for key, value in saved.state_dict().items()}
    torch.save({"state_dict_backbone": weights, "epoch": 3}, tmp_path / "facelivt_s.pt")
    report = load_checkpoint(network, tmp_path / "facelivt_s.pt")
    assert report.loaded == len(weights)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(network(images), saved(images))


def test_linear_attention_interleaves_the_channels_of_its_groups():
    torch.manual_seed(0)
    layer = LinearAttention(32, 4)
    for g, last in enumerate(layer.linear2):
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, g)
    mixed = layer(torch.randn(1, 32, 2, 2))
    assert mixed[0, :, 0, 0].tolist() == [*range(16), *range(16)]


def test_lite_linear_attention_keeps_order_and_starts_near_zero():
    layer = LiteLinearAttention(8, 4)
    x = torch.randn(1, 8, 2, 2)
    assert layer(x).abs().max() < 1e-4
    nn.init.ones_(layer.ls)
    for g, last in enumerate(layer.lin):
        nn.init.constant_(last.bias, g)
    assert layer(x)[0, :, 0, 0].round().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_softmax_attention_is_torchs():
    torch.manual_seed(0)
    layer = SoftmaxAttention(16).eval()
    x = torch.randn(2, 16, 3, 5)
    heads = layer.qkv_proj(x).flatten(2).unflatten(1, (6, 72)).transpose(2, 3)
    attended = nn.functional.scaled_dot_product_attention(*heads.split((32, 32, 8), dim=3))
    channels = attended.transpose(2, 3).reshape(2, 48, 3, 5)
    torch.testing.assert_close(layer(x), layer.out_proj(channels))


def test_images_must_leave_a_map_to_mix():
    with pytest.raises(UserError, match="16x16 is too small"):
        on_meta("facelivtv2_xs", input_size=(16, 16))


@pytest.mark.parametrize(("channels_in", "stride", "groups"), [(3, 2, 1), (20, 2, 20), (20, 1, 1)])
def test_in_training_the_parallel_convolutions_are_one(channels_in, stride, groups):
    torch.manual_seed(0)
    layer = RepConv(channels_in, 20, stride, groups).train().to(memory_format=torch.channels_last)
    x = torch.randn(2, channels_in, 16, 16).to(memory_format=torch.channels_last)
    point = layer.repconv
    every = x[:, :, ::stride, ::stride]
    apart = layer.conv(x) + conv2d(every, point.weight, point.bias, groups=groups)
    gradients = []
    for output in (layer(x), layer.bn(apart)):
        layer.zero_grad()
        (output * torch.arange(20.0)[:, None, None]).square().mean().backward()
        gradients.append([output, *(each.grad.clone() for each in layer.parameters())])
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-3)
