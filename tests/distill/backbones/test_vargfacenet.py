"""VarGFaceNet against its published figures and the layers of its authors' code."""

import pytest
import torch
from torch import nn

from distill.backbones import create
from distill.backbones.vargfacenet import DownsamplingBlock, NormalBlock, VarGFaceNet
from distill.counting import count_network
from teachers.layers import PReLU, SqueezeExcite


def build_on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return create(name)


def modules(network: nn.Module, kind: type) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kind)]


def convolution_shapes(block: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(layer.weight.shape) for layer in modules(block, nn.Conv2d)]


@pytest.mark.parametrize(
    ("name", "params", "madds", "lfr_flops", "size_mib"),
    [
        ("vargfacenet", 5.198e6, 512.6e6, 1022.9e6, 19.83),
        ("vargfacenet_no_se", 4.958e6, 512.4e6, 1022.4e6, 18.91),
    ],
)
def test_vargfacenet_has_its_published_size(name, params, madds, lfr_flops, size_mib):
    counts = count_network(name)
    assert counts.params == pytest.approx(params, abs=0.0005e6)
    assert counts.madds == pytest.approx(madds, abs=0.05e6)
    assert counts.lfr_flops == pytest.approx(lfr_flops, abs=0.05e6)
    assert counts.size_mib == pytest.approx(size_mib, abs=0.005)


def test_vargnet_has_the_1029_million_operations_of_table_4():
    assert count_network("vargnet").lfr_flops // 10**6 == 1029


def test_the_embedding_setting_takes_5_78_mib():
    network = build_on_meta("vargfacenet")
    before = (network.last, network.global_group, network.embedding[0])
    fully_connected = network.embedding[2].weight.numel()
    parameters = sum(p.numel() for part in before for p in part.parameters())
    assert parameters * 4 / 1e6 == pytest.approx(5.04, abs=0.005)
    assert (parameters + fully_connected) * 4 / 2**20 == pytest.approx(5.8, abs=0.05)


def test_every_variable_group_has_eight_channels():
    network = build_on_meta("vargfacenet")
    spatial = [c for c in modules(network, nn.Conv2d) if c.kernel_size != (1, 1)]
    assert spatial[0].groups == 1
    assert all(c.in_channels // c.groups == 8 for c in spatial[1:])


def test_the_first_convolution_keeps_the_size_of_the_image():
    assert build_on_meta("vargfacenet").body[0][0].stride == (1, 1)


def test_blocks_have_the_convolutions_of_the_authors_code():
    body = build_on_meta("vargfacenet").body
    head, downsampling, normal = body[1], body[2], body[3]
    squeeze = [(10, 40, 1, 1), (40, 10, 1, 1)]
    factor_one = [(40, 8, 3, 3), (40, 40, 1, 1)]
    assert convolution_shapes(head) == 2 * factor_one + squeeze + factor_one
    assert convolution_shapes(downsampling) == 3 * [(80, 8, 3, 3), (80, 80, 1, 1)] + [
        (160, 8, 3, 3),
        (80, 160, 1, 1),
    ]
    assert convolution_shapes(normal) == 2 * [(160, 8, 3, 3), (80, 160, 1, 1)] + [
        (20, 80, 1, 1),
        (80, 20, 1, 1),
    ]


def test_stages_have_3_7_and_4_blocks_with_attention():
    body = build_on_meta("vargfacenet").body
    blocks = list(body)[1:]
    stages = [[DownsamplingBlock] + [NormalBlock] * normal for normal in (2, 6, 3)]
    assert [type(block) for block in blocks] == [NormalBlock] + [
        kind for stage in stages for kind in stage
    ]
    assert all(
        bool(modules(block, SqueezeExcite)) == isinstance(block, NormalBlock) for block in blocks
    )
    assert not modules(build_on_meta("vargfacenet_no_se"), SqueezeExcite)


def test_branches_are_linear_until_they_are_added():
    torch.manual_seed(0)
    block = DownsamplingBlock(8, 16, PReLU).eval()
    x = torch.randn(2, 8, 8, 8)
    merged = nn.functional.prelu(block.left(x) + block.right(x), block.merged_activation.weight)
    added = block.second(merged) + block.shortcut(x)
    expected = torch.where(added > 0, added, added * 0.25)
    assert torch.allclose(block(x), expected)
    assert all(len(branch[1]) == 2 for branch in (block.left, block.right, block.shortcut))


def test_every_norm_has_a_scale_and_the_authors_epsilon():
    network = build_on_meta("vargfacenet")
    norms = modules(network, nn.BatchNorm2d) + modules(network, nn.BatchNorm1d)
    assert {norm.eps for norm in norms} == {2e-5}
    assert all(norm.weight.requires_grad for norm in norms)
    assert isinstance(network.embedding[-1], nn.BatchNorm1d)


@pytest.mark.parametrize("name", ["vargnet", "vargnet_embedding"])
def test_vargnet_has_relu_and_no_attention(name):
    network = build_on_meta(name)
    assert not modules(network, SqueezeExcite)
    assert not modules(network, nn.PReLU)
    assert modules(network, nn.ReLU)
    assert isinstance(network, VarGFaceNet) == (name == "vargnet_embedding")
