"""Y2 against insightface's counts, Bitmain's family against its Table 2."""

import pytest
import torch

from distill.backbones import NETWORKS, create
from distill.counting import count_network

SMALL = {"embedding": 8, "input_size": (32, 32), "width": 0.125}


def test_y2_has_the_operations_that_the_challenge_prints():
    counts = count_network("y2")
    assert counts.params == 1_996_288
    assert counts.madds == pytest.approx(468.8e6, abs=0.05e6)
    assert counts.lfr_flops == pytest.approx(933.3e6, abs=0.05e6)
    assert counts.lfr_flops / 2**20 == pytest.approx(890.1, abs=0.05)
    assert counts.size_mib == pytest.approx(7.61, abs=0.006)


@pytest.mark.parametrize(
    ("name", "binary_mega", "size_mib"),
    [
        ("bitmain_y2", 764.9, 7.52),
        ("bitmain_yoa", 981.8, 10.25),
        ("bitmain_yob", 1003.2, 14.68),
        ("bitmain_yoc", 936.3, 9.02),
        ("bitmain_yod", 989.3, 14.67),
        ("bitmain_yoe", 894.5, 17.86),
    ],
)
def test_bitmains_networks_have_its_sizes_in_binary_units(name, binary_mega, size_mib):
    counts = count_network(name)
    assert counts.lfr_flops / 2**20 == pytest.approx(binary_mega, abs=0.1)
    assert counts.size_mib == pytest.approx(size_mib, abs=0.006)
    assert NETWORKS[name].status == "inferred"


def test_bottlenecks_as_wide_as_the_stem_replace_the_depthwise():
    with torch.device("meta"):
        network = create("y2")
    assert [len(s) for s in (network.stage1, network.stage2, network.stage3, network.stage4)] == [
        2, 9, 17, 5,
    ]  # fmt: skip
    assert all(block.residual for block in network.stage1)
    assert network.stage1[0].depthwise[0].groups == 64
    halving = [stage[0] for stage in (network.stage2, network.stage3, network.stage4)]
    assert [block.depthwise[0].groups for block in halving] == [128, 256, 512]
    assert not any(block.residual for block in halving)


def test_the_head_has_a_bias_and_a_norm_whose_scale_stays_one():
    head = create("y2", **SMALL).head
    assert head.fc.bias is not None
    assert not head.norm.weight.requires_grad
    assert torch.equal(head.norm.weight, torch.ones(8))


def test_batch_normalisation_has_the_constants_of_mxnet():
    network = create("y2", **SMALL)
    constants = {module.eps for module in network.modules() if hasattr(module, "running_var")}
    assert constants == {1e-3, 2e-5}
    assert network.head.norm.eps == 2e-5
