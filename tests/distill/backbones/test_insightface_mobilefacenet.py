"""insightface's own mobilefacenet: its counts, and its names for layers."""

import hashlib

import pytest
import torch

from distill.backbones import create
from distill.counting import count_network


def test_counts():
    counts = count_network("insightface_mobilefacenet")
    assert counts.params == pytest.approx(2.06e6, abs=0.005e6)
    assert counts.madds == pytest.approx(437e6, abs=0.6e6)


def test_a_public_checkpoint_loads_by_name():
    with torch.device("meta"):
        state = create("insightface_mobilefacenet").state_dict()
    lines = [f"{name} {tuple(values.shape)}" for name, values in state.items()]
    assert lines[0] == "layers.0.layers.0.weight (128, 3, 3, 3)"
    assert lines[7] == "layers.1.layers.0.weight (128, 2, 3, 3)"
    assert "layers.3.layers.3.layers.2.layers.1.running_var (128,)" in lines
    assert "features.layers.2.weight (512, 512)" in lines
    # Taken from the state dict of arcface_torch's get_mbf(fp16=False, num_features=512).
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert len(lines) == 333
    assert digest == "9559fd021a31b1bc4f8906903cc7f219fb894ab5a6514ac22597689891dd31ab"


def test_bottlenecks_of_stride_1_add_their_input():
    layers = create("insightface_mobilefacenet", 8, (32, 32), 0.125).layers
    assert [layers[i].residual for i in (2, 4, 6)] == [False] * 3
    assert all(block.residual for i in (3, 5, 7) for block in layers[i].layers)
