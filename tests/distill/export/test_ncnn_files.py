"""ncnn's files are read layer by layer, and written with int8 weights."""

import struct

import numpy as np
import pytest

from curation.errors import UserError
from distill.export.ncnn_files import INT8_TAG, read_layers, write_int8

GRAPH = """\
7767517
5 5
Input in0 0 1 in0
Convolution conv 1 1 in0 1 0=2 1=1 5=1 6=6
PReLU prelu 1 1 1 2 0=2
ConvolutionDepthWise pairs 1 1 2 3 0=2 1=1 5=0 6=2 7=1
InnerProduct last 1 1 3 out0 0=2 1=1 2=4
"""
CONV = np.array([[1, -2, 0.5], [0.1, 0.2, -0.1]], "<f4")


@pytest.fixture
def files(tmp_path):
    """A graph of four layers with weights, and the weights."""
    graph, weights = tmp_path / "model.param", tmp_path / "model.bin"
    graph.write_text(GRAPH)
    tag = struct.pack("<I", 0)
    bias, slopes = np.float32([3, 4]).tobytes(), np.float32([0.25, 0.5]).tobytes()
    pairs, last = np.float32([1, 2]).tobytes(), np.float32([1, 2, 3, 4]).tobytes()
    parts = (tag, CONV.tobytes(), bias, slopes, tag, pairs, tag, last, bias)
    weights.write_bytes(b"".join(parts))
    return graph, weights


def test_each_layer_has_its_weights(files):
    head, layers = read_layers(*files)
    assert head == ["7767517", "5 5"]
    assert [None if each.tagged is None else each.tagged.shape for each in layers] == [
        None,
        (2, 3),
        None,
        (2, 1),
        (2, 2),
    ]
    assert [each.plain.tolist() for each in layers] == [[], [3, 4], [0.25, 0.5], [], [3, 4]]


def test_nothing_changes_if_no_layer_is_named(files):
    before = files[1].read_bytes()
    assert write_int8(*files, {}) == 0
    assert files[0].read_text() == GRAPH
    assert files[1].read_bytes() == before


def test_a_layer_in_int8_has_weights_bias_and_scales(files):
    assert write_int8(*files, {CONV.tobytes(): 2.0}) == 1
    assert "6=6 8=1\n" in files[0].read_text()
    content = files[1].read_bytes()
    assert struct.unpack_from("<I", content) == (INT8_TAG,)
    whole = np.frombuffer(content, np.int8, 6, 4).reshape(2, 3)
    bias, scales = (np.frombuffer(content, "<f4", 2, at) for at in (12, 20))
    np.testing.assert_allclose(whole / scales[:, None], CONV, atol=0.02)
    np.testing.assert_array_equal(bias, [3, 4])
    assert struct.unpack_from("<f", content, 28) == (63.5,)


def test_a_layer_whose_channels_share_a_scale_stays_float(files):
    pairs = np.float32([[1], [2]]).tobytes()
    assert write_int8(*files, {pairs: 1.0}) == 0


@pytest.mark.parametrize(
    "content",
    [lambda b: b[:-4], lambda b: b[:8], lambda b: b + bytes(4), lambda b: bytes([1]) + b[1:]],
    ids=["short", "shorter", "long", "tagged"],
)
def test_layers_with_unknown_weights_are_refused(files, content):
    files[1].write_bytes(content(files[1].read_bytes()))
    with pytest.raises(UserError, match="layer with weights that ncnn-int8 does not know"):
        read_layers(*files)
