"""Meituan's network against Table 1, and the steps to it against Table 2."""

import pytest
import torch
from torch import nn

from distill.backbones import create
from distill.backbones.meituan import STEPS, Block
from distill.counting import count_network
from teachers.layers import SqueezeExcite


def build_on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return create(name)


def test_meituan_has_its_published_size():
    counts = count_network("meituan")
    assert counts.params == pytest.approx(5.14e6, abs=0.005e6)
    assert counts.madds == pytest.approx(490.2e6, abs=0.05e6)
    assert counts.lfr_flops == pytest.approx(976.6e6, abs=0.05e6)
    assert counts.size_mib == pytest.approx(19.6, abs=0.05)


def test_step_0_has_the_counts_of_y2():
    counts = count_network("meituan_step0")
    assert counts.params == pytest.approx(1.996e6, abs=0.0005e6)
    assert counts.madds == pytest.approx(468.8e6, abs=0.05e6)
    assert counts.lfr_flops == pytest.approx(933.3e6, abs=0.05e6)


def test_the_blocks_are_the_rows_of_table_1():
    rows = (
        # expanded channels, channels, repeats, stride
        (56, 24, 2, 1),
        (116, 56, 1, 2),
        (116, 56, 6, 1),
        (248, 124, 1, 2),
        (248, 124, 15, 1),
        (512, 256, 1, 2),
        (256, 256, 24, 1),
    )
    expected = [(t, c, stride) for t, c, repeats, stride in rows for _ in range(repeats)]
    network = build_on_meta("meituan")
    blocks = [
        (block.expand[0].out_channels, block.project[0].out_channels, block.depthwise[0].stride[0])
        for block in network.blocks
    ]
    assert blocks == expected
    assert network.embedding[0].out_channels == 282


def test_table_2_gives_the_width_after_a_stages_last_block():
    network = build_on_meta("meituan")
    ends = [block.project[0].out_channels for block in network.blocks if not block.residual]
    assert [*ends, network.last[0].out_channels] == [56, 124, 256, 512]


def test_attention_has_a_sixteenth_of_the_channels_no_bias():
    attention = [m for m in build_on_meta("meituan").modules() if isinstance(m, SqueezeExcite)]
    assert len(attention) == 2 + 1 + 6 + 1 + 15 + 1 + 24
    assert {(m.squeeze.in_channels, m.squeeze.out_channels) for m in attention} == {
        (24, 2), (56, 4), (124, 8), (256, 16),
    }  # fmt: skip
    assert all(m.squeeze.bias is None and m.excite.bias is None for m in attention)


def test_attention_comes_before_the_residual_is_added():
    torch.manual_seed(0)
    block = Block(8, 16, 8, stride=1, attention=True).eval()
    nn.init.zeros_(block.attention.excite.weight)  # so its gate is 1/2
    x = torch.randn(2, 8, 4, 4)
    projected = block.project(block.depthwise(block.expand(x)))
    assert torch.allclose(block(x), x + projected / 2)


def test_the_steps_move_depth_to_the_top():
    tops = [step.repeats[-1] for step in STEPS]
    stems = [step.channels[0] for step in STEPS]
    assert tops == [4, 16, 19, 21, 23, 24]
    assert stems == [64, 30, 28, 26, 24, 24]


def test_step_4_counts_988_million_operations_not_998():
    assert count_network("meituan_step4").lfr_flops == pytest.approx(988.4e6, abs=0.05e6)
