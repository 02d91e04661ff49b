"""Parameters and operations compared with published numbers, by hand, and with torch's counter."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from distill.backbones import create
from distill.counting import count, count_network


def test_a_convolution_and_a_fully_connected_layer_by_hand():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),  # 8 x 8 outputs of 8 channels
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Flatten(),
        nn.Linear(8 * 8 * 8, 10, bias=False),
        nn.Linear(10, 5),
    )
    counts = count(network, (16, 16))
    assert counts.params == 3 * 8 * 9 + (8 * 9 + 8) + 512 * 10 + (10 * 5 + 5)
    assert counts.madds == 64 * 8 * 27 + 64 * 8 * 9 + 512 * 10 + 10 * 5
    # The grouped one has a bias, so nothing is subtracted.
    convolutions = (2 * 27 - 1) * 64 * 8 + 2 * 9 * 8 * 64 * 8 // 8
    assert counts.lfr_flops == convolutions + (2 * 512 * 10 - 10) + 2 * 10 * 5
    assert counts.size_mib == counts.params * 4 / 2**20


def test_a_layer_that_is_called_twice_counts_twice():
    shared = nn.Conv2d(3, 3, 1)
    assert count(nn.Sequential(shared, shared), (4, 4)).madds == 2 * count(shared, (4, 4)).madds


def test_counting_leaves_the_network_as_it_was():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    count(network, (8, 8))
    assert all(module.training for module in network.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_mobilefacenet_has_its_published_size():
    counts = count_network("mobilefacenet", 128, (112, 112))
    assert counts.params == pytest.approx(1.003e6, rel=0.0005)
    assert counts.madds == pytest.approx(221.0e6, abs=0.05e6)
    assert counts.lfr_flops == pytest.approx(439.8e6, abs=0.05e6)
    assert counts.size_mib == pytest.approx(3.83, abs=0.005)


@pytest.mark.parametrize(
    ("embedding", "size", "madds"),
    [(512, (112, 112), 221.2e6), (128, (112, 96), 189.4e6), (128, (96, 96), 162.4e6)],
)
def test_mobilefacenet_variants(embedding: int, size: tuple[int, int], madds: float):
    counts = count_network("mobilefacenet", embedding, size)
    assert counts.madds == pytest.approx(madds, abs=0.05e6)


@pytest.mark.parametrize(
    ("name", "params", "madds"),
    [
        ("iresnet18", 24.03e6, 2.61e9),
        ("iresnet34", 34.14e6, 4.46e9),
        ("iresnet50", 43.59e6, 6.31e9),
        ("iresnet100", 65.16e6, 12.09e9),
        ("iresnet200", 118.83e6, 23.42e9),
    ],
)
def test_iresnets_have_their_published_size(name: str, params: float, madds: float):
    counts = count_network(name)
    assert counts.params == pytest.approx(params, abs=0.005e6)
    assert counts.madds == pytest.approx(madds, abs=0.005e9)


def test_iresnet100_has_24_gflops_as_the_challenge_counts():
    assert count_network("iresnet100").lfr_flops == pytest.approx(24.17e9, abs=0.005e9)


def test_a_timm_network_is_counted_too():
    assert count_network("timm/mobilenetv3_small_100", 128).madds > 10e6


SEVERAL_KINDS = (
    "mobilefacenet", "iresnet18", "vargfacenet", "meituan", "seesaw_share", "shufflenet",
    "oct_resnet_a", "ghostfacenetv2", "edgeface_xs", "insightface_mobilefacenet",
)  # fmt: skip


@pytest.mark.parametrize("name", SEVERAL_KINDS)
def test_madds_agree_with_torchs_counter(name: str):
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network = create(name, width=0.25, input_size=(32, 32)).eval()
        network(torch.zeros(1, 3, 32, 32))
    flops = counter.get_flop_counts()["Global"]
    flops.pop(torch.ops.aten.bmm, None)  # the products inside attention
    assert 2 * count(network, (32, 32)).madds == sum(flops.values())
