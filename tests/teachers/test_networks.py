"""The registry: networks are built by name."""

import pytest
import torch
from torch import nn

from curation.errors import UserError
from distill.backbones import create
from teachers.layers import PReLU

SMALL = {"input_size": (32, 32), "width": 0.125}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mobilefacenet", 1_003_136),
        ("iresnet18", 24_025_600),
        ("iresnet34", 34_139_328),
        ("iresnet50", 43_590_848),
        ("iresnet100", 65_156_160),
        ("iresnet200", 118_833_920),
    ],
)
def test_networks_have_the_published_number_of_parameters(name, parameters):
    with torch.device("meta"):
        network = create(name)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_mobilefacenets_second_row_has_no_pointwise():
    network = create("mobilefacenet")
    kinds = [(m.kernel_size, m.groups, m.out_channels) for m in network.modules()
             if isinstance(m, nn.Conv2d)]  # fmt: skip
    assert kinds[:3] == [((3, 3), 1, 64), ((3, 3), 64, 64), ((1, 1), 1, 128)]


def test_mobilefacenet_adds_inputs_of_equal_size_alone():
    blocks = create("mobilefacenet").bottlenecks
    assert [block.residual for block in blocks] == [False] + [True] * 4 + [False] + [True] * 6 + [
        False
    ] + [True] * 2


def test_insightface_names_iresnet_layers_like_this():
    with torch.device("meta"):
        names = set(create("iresnet18").state_dict())
    assert {
        "conv1.weight", "bn1.running_mean", "prelu.weight", "layer1.0.bn3.bias",
        "layer2.0.downsample.0.weight", "layer4.1.prelu.weight", "bn2.weight", "fc.bias",
        "features.running_var",
    } <= names  # fmt: skip


def test_the_scale_of_iresnets_output_norm_stays_one():
    network = create("iresnet18", embedding=8, **SMALL)
    assert not network.features.weight.requires_grad
    assert torch.equal(network.features.weight, torch.ones(8))


@pytest.mark.parametrize("name", ["timm/mobilenetv3_small_050", "timm/vit_tiny_patch16_224"])
def test_any_timm_model_is_a_student(name):
    network = create(name, embedding=32, input_size=(64, 64))
    assert network(torch.randn(2, 3, 64, 64)).shape == (2, 32)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("mobilfacenet", {}, "mobilefacenet"),
        ("timm/no_such_model", {}, "not a model of timm"),
        ("timm/mobilenetv3_small_050", {"width": 0.5}, "takes no width"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(name, settings, words):
    with pytest.raises(UserError, match=words):
        create(name, **settings)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_fast_prelu_computes_what_pytorchs_does(layout):
    torch.manual_seed(0)
    x = torch.randn(4, 6, 5, 5).contiguous(memory_format=layout)
    x[0, 0, 0, 0] = 0.0
    results = []
    for kind in (PReLU, nn.PReLU):
        layer, given = kind(6), x.clone().requires_grad_()
        output = layer(given)
        output.backward(torch.ones_like(output) * torch.arange(5.0))
        results.append((output.detach(), given.grad, layer.weight.grad))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=0)
