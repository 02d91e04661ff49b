"""EdgeFace: the printed sizes, low ranks, and the names in its public checkpoints."""

import pytest
import torch
from torch import nn

from curation.errors import UserError
from distill.backbones import create
from distill.backbones.edgeface import LowRankLinear
from distill.counting import count_network


def on_meta(name: str, **settings) -> nn.Module:
    with torch.device("meta"):
        return create(name, **settings)


@pytest.mark.parametrize(
    ("name", "params", "printed_operations"),
    [
        ("edgeface_base", 18_225_812, 1398.83e6),
        ("edgeface_s", 3_652_520, 306.12e6),
        ("edgeface_xs", 1_770_492, 154.00e6),
        ("edgeface_xxs", 1_244_744, 94.72e6),
    ],
)
def test_they_have_the_printed_sizes(name: str, params: int, printed_operations: float):
    counts = count_network(name)
    assert counts.params == params
    assert 2 * counts.madds == pytest.approx(printed_operations, rel=0.013)


@pytest.mark.parametrize(("name", "gamma"), [("edgeface_s", 0.5), ("edgeface_xs", 0.6)])
def test_every_fully_connected_layer_of_s_and_xs_has_low_rank(name: str, gamma: float):
    network = on_meta(name)
    pairs = [m for m in network.modules() if isinstance(m, LowRankLinear)]
    plain = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert len(plain) == 2 * len(pairs) > 0
    for pair in pairs:
        sides = pair.linear1.in_features, pair.linear2.out_features
        assert pair.linear1.out_features == int(gamma * min(sides))
        assert pair.linear1.bias is None


@pytest.mark.parametrize("name", ["edgeface_base", "edgeface_xxs"])
def test_base_and_xxs_keep_their_layers(name: str):
    assert not any(isinstance(m, LowRankLinear) for m in on_meta(name).modules())


def test_the_authors_names_of_layers():
    shapes = {
        name: tuple(value.shape) for name, value in on_meta("edgeface_xs").state_dict().items()
    }
    assert shapes["model.stem.0.weight"] == (32, 3, 4, 4)
    assert shapes["model.stages.1.blocks.2.xca.temperature"] == (4, 1, 1)
    assert shapes["model.stages.1.blocks.2.xca.qkv.linear1.weight"] == (38, 64)
    assert shapes["model.stages.3.blocks.0.mlp.fc1.linear2.bias"] == (768,)
    assert shapes["model.head.fc.linear2.weight"] == (512, 115)
    assert "model.head.fc.linear1.bias" not in shapes
    assert shapes.keys() >= {"model.head.norm.weight", "model.stages.3.blocks.2.gamma_xca"}
    assert len(shapes) == 257


def test_a_pair_of_low_rank_is_the_product_of_its_matrices():
    torch.manual_seed(0)
    pair = LowRankLinear(6, 4, gamma=0.5)
    x = torch.randn(3, 6)
    product = pair.linear2.weight @ pair.linear1.weight
    assert torch.linalg.matrix_rank(product) == 2
    torch.testing.assert_close(pair(x), x @ product.T + pair.linear2.bias)


@pytest.mark.parametrize(
    ("size", "words"), [((50, 50), "not a multiple of its stride 16"), ((16, 16), "too small")]
)
def test_sizes_that_do_not_fit_are_refused(size: tuple[int, int], words: str):
    with pytest.raises(UserError, match=words):
        on_meta("edgeface_xxs", input_size=size)
