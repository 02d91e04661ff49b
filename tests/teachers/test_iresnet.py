"""The large networks: layer orders, counts, names and computations as in their sources."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from distill.backbones import create
from distill.counting import count_network
from teachers.networks import head_parameters

KEYS = json.loads((Path(__file__).parent / "data" / "iresnet_keys.json").read_text())
SMALL = {"embedding": 8, "input_size": (32, 32), "width": 0.125}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def lines_of(name):
    with torch.device("meta"):
        state = create(name).state_dict()
    return [f"{key} {'x'.join(map(str, value.shape))}" for key, value in state.items()]


def with_random_statistics(module):
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, NORMS):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias)
    return module.eval()


@pytest.mark.parametrize("name", KEYS["networks"])
def test_keys_and_shapes_are_those_of_the_published_code(name):
    number, digest = KEYS["networks"][name]
    lines = sorted(lines_of(name))
    assert set(KEYS["lines"].get(name, ())) <= set(lines)
    assert len(lines) == number
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest


def test_iresnet_se100_has_its_published_size():
    counts = count_network("iresnet_se100")
    assert counts.params == pytest.approx(65.54e6, abs=0.005e6)
    assert counts.lfr_flops == pytest.approx(24.17e9, abs=0.005e9)


def test_iresnet100_has_its_published_size():
    assert count_network("iresnet100").size_mib == pytest.approx(248.55, abs=0.005)


@pytest.mark.parametrize(
    ("name", "epsilon"),
    [
        ("iresnet18", 1e-5),
        ("iresnet_se50", 2e-5),
        ("treb1en_ir_se50", 1e-5),
        ("adaface_ir18", 1e-5),
    ],
)
def test_every_normalisation_has_the_constant_of_its_source(name, epsilon):
    norms = [module for module in create(name, **SMALL).modules() if isinstance(module, NORMS)]
    assert {norm.eps for norm in norms} == {epsilon}


@pytest.mark.parametrize(
    ("name", "fully_connected", "norm"),
    [
        ("iresnet_se50", "fc", "features"),
        ("treb1en_ir50", "output_layer.3", "output_layer.4"),
        ("adaface_ir18", "output_layer.3", "output_layer.4"),
    ],
)
def test_after_the_last_map_are_a_biased_layer_and_a_norm(name, fully_connected, norm):
    network = create(name, **SMALL)
    layer, after = network.get_submodule(fully_connected), network.get_submodule(norm)
    assert isinstance(layer, nn.Linear)
    assert layer.bias is not None
    assert isinstance(after, nn.BatchNorm1d)
    expected = {id(parameter) for parameter in (*layer.parameters(), *after.parameters())}
    assert {id(parameter) for parameter in head_parameters(network)} == expected


def test_output_norms_have_the_scales_of_their_sources():
    assert create("adaface_ir18", **SMALL).output_layer[4].weight is None
    assert create("treb1en_ir50", **SMALL).output_layer[4].weight.requires_grad
    assert not create("iresnet_se50", **SMALL).features.weight.requires_grad


@pytest.mark.parametrize("name", ["iresnet_se50", "treb1en_ir_se50", "adaface_ir18"])
def test_embeddings_are_not_divided_by_their_length(name):
    network = with_random_statistics(create(name, **SMALL))
    lengths = network(torch.randn(2, 3, 32, 32)).norm(dim=1)
    assert (lengths - 1).abs().min() > 0.01


def conv(state, key, x, stride=1, padding=1):
    bias = state.get(f"{key}.bias")
    return F.conv2d(x, state[f"{key}.weight"], bias, stride, padding)


def norm(state, key, x, epsilon=1e-5):
    statistics = state[f"{key}.running_mean"], state[f"{key}.running_var"]
    affine = state[f"{key}.weight"], state[f"{key}.bias"]
    return F.batch_norm(x, *statistics, *affine, eps=epsilon)


def insightface_se_block(state, x):
    y = norm(state, "bn1", x, 2e-5)
    y = norm(state, "bn2", conv(state, "conv1", y), 2e-5)
    y = F.prelu(y, state["prelu.weight"])
    y = norm(state, "bn3", conv(state, "conv2", y, stride=2), 2e-5)
    means = y.mean((2, 3), keepdim=True)
    hidden = F.prelu(conv(state, "se.squeeze", means, padding=0), state["se.activation.weight"])
    y = y * torch.sigmoid(conv(state, "se.excite", hidden, padding=0))
    shortcut = conv(state, "downsample.0", x, stride=2, padding=0)
    return y + norm(state, "downsample.1", shortcut, 2e-5)


def treb1en_se_block(state, x):
    y = norm(state, "res_layer.0", x)
    y = F.prelu(conv(state, "res_layer.1", y), state["res_layer.2.weight"])
    y = norm(state, "res_layer.4", conv(state, "res_layer.3", y, stride=2))
    hidden = F.relu(conv(state, "res_layer.5.fc1", y.mean((2, 3), keepdim=True), padding=0))
    y = y * torch.sigmoid(conv(state, "res_layer.5.fc2", hidden, padding=0))
    return y + x[:, :, ::2, ::2]


def adaface_block(state, x):
    y = norm(state, "res_layer.0", x)
    y = norm(state, "res_layer.2", conv(state, "res_layer.1", y))
    y = F.prelu(y, state["res_layer.3.weight"])
    y = norm(state, "res_layer.5", conv(state, "res_layer.4", y, stride=2))
    return y + x[:, :, ::2, ::2]


@pytest.mark.parametrize(
    ("name", "block", "reference"),
    [
        ("iresnet_se50", "layer1.0", insightface_se_block),
        ("treb1en_ir_se50", "body.0", treb1en_se_block),
        ("adaface_ir18", "body.0", adaface_block),
    ],
)
def test_the_first_block_computes_the_formula_of_its_source(name, block, reference):
    module = with_random_statistics(create(name, **SMALL).get_submodule(block))
    x = torch.randn(2, 8, 6, 6)
    assert torch.allclose(module(x), reference(module.state_dict(), x), atol=1e-5)
