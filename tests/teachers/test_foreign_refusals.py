"""ONNX teachers: a file that does not fit is refused in one line."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from curation.errors import UserError
from teachers.foreign import OnnxEmbedder
from teachers.preprocessing import Preprocessing
from tests.teachers.onnx_models import (
    DIMENSIONS,
    PREPROCESSING,
    SAME,
    cast_model,
    float_model,
    linear_model,
    save,
)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            linear_model(("N", 3, 8, 8), flatten=False),
            r"the preprocessing gives tensor\(float\) \[N, 3, 4, 4\]",
        ),
        (linear_model(("N", 1, 4, 4), flatten=False), "input 'data0' is"),
        (linear_model((3, 4, 4), flatten=False), "input 'data0' is .*; export it .* in a batch"),
        (linear_model(inputs=2), "exactly one, the images"),
        (linear_model(flatten=False), r"an embedder has exactly one, \[N, D\]"),
    ],
    ids=["size", "channels", "rank", "two inputs", "output"],
)
def test_a_graph_that_is_no_embedder_is_refused(
    tmp_path: Path, model: onnx.ModelProto, message: str
):
    with pytest.raises(UserError, match=message):
        OnnxEmbedder(save(tmp_path, model), PREPROCESSING)


@pytest.mark.parametrize(
    ("kind", "mean", "std", "words"),
    [
        ("UINT8", 127.5, 127.5, "integers, .*; give mean = 0, std = 1"),
        ("UINT8", 1.0, 1.0, "mean = 0, std = 1"),
        ("INT8", 0.0, 1.0, "mean = 128, std = 1"),
        ("BOOL", 0.0, 1.0, r"is tensor\(bool\) .* export it with an input of one of tensor"),
    ],
)
def test_an_input_that_the_preprocessing_does_not_fit_is_refused(
    tmp_path: Path, kind: str, mean: float, std: float, words: str
):
    model = cast_model(getattr(TensorProto, kind), ("N", 3, 4, 4), SAME, ("N", DIMENSIONS))
    pixels = Preprocessing(colour="RGB", mean=mean, std=std, size=(4, 4))
    with pytest.raises(UserError, match=words):
        OnnxEmbedder(save(tmp_path, model), pixels)


def times(value: float) -> list:
    return [
        helper.make_node("Constant", [], ["factor"], value_floats=[value]),
        helper.make_node("Mul", ["fc", "factor"], ["out"]),
    ]


def enormous() -> onnx.ModelProto:
    """A few bytes that request terabytes."""
    return float_model(
        [
            helper.make_node("Constant", [], ["shape"], value_ints=[10**6, 10**6]),
            helper.make_node("ConstantOfShape", ["shape"], ["large"]),
            helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
            helper.make_node("Add", ["fc", "sum"], ["out"]),
        ]
    )


KERNEL = np.ones((DIMENSIONS, DIMENSIONS, 1, 1), np.float32)


def tiled(*repeats: int) -> onnx.ModelProto:
    """The output is repeated; onnxruntime refuses large ones with a message of its own."""
    constant = helper.make_node("Constant", [], ["repeats"], value_ints=repeats)
    return float_model([constant, helper.make_node("Tile", ["fc", "repeats"], ["out"])])


def overflowing() -> onnx.ModelProto:
    """A padded side of 2^32 pixels."""
    kernel = helper.make_node("Constant", [], ["kernel"], value=numpy_helper.from_array(KERNEL))
    axes = helper.make_node("Constant", [], ["axes"], value_ints=[2, 3])
    planes = helper.make_node("Unsqueeze", ["fc", "axes"], ["planes"])
    conv = helper.make_node("Conv", ["planes", "kernel"], ["wide"], pads=[2**31] * 4)
    mean = helper.make_node("GlobalAveragePool", ["wide"], ["mean"])
    flat = helper.make_node("Flatten", ["mean"], ["out"])
    return float_model([kernel, axes, planes, conv, mean, flat])


def quantised_output() -> onnx.ModelProto:
    model = linear_model()
    scale = [numpy_helper.from_array(np.float32(1), "s"), numpy_helper.from_array(np.int8(0), "z")]
    model.graph.initializer.extend(scale)
    model.graph.node.append(helper.make_node("QuantizeLinear", ["fc1", "s", "z"], ["out"]))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("out", TensorProto.INT8, None))
    return model


def of_another_library() -> onnx.ModelProto:
    model = linear_model()
    model.graph.node.append(helper.make_node("Foo", ["fc1"], ["other"], domain="mine"))
    return model


def many_outputs() -> onnx.ModelProto:
    model = linear_model()
    for name in (f"{i}{'x' * 999}" for i in range(999)):
        model.graph.node.append(helper.make_node("Identity", ["fc1"], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model


def quality_first() -> onnx.ModelProto:
    """Its first output is one number per image."""
    model = linear_model()
    model.graph.node.append(helper.make_node("ReduceMean", ["fc1"], ["quality"], keepdims=1))
    quality = helper.make_tensor_value_info("quality", TensorProto.FLOAT, ("N", 1))
    model.graph.output.insert(0, quality)
    return model


def detector() -> onnx.ModelProto:
    """Its outputs are scores and boxes for each place in the image."""
    model = linear_model((1, 3, 4, 4))
    del model.graph.output[:]
    for name, length in (("scores", 1), ("boxes", DIMENSIONS)):
        model.graph.node.append(helper.make_node("Unsqueeze", ["fc1", "second"], [name]))
        shape = (1, DIMENSIONS, length)
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "second"))
    return model


def classifier() -> onnx.ModelProto:
    model = linear_model()
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["fc1"]))
    return model


def newer(ir_version: int, opset: int) -> onnx.ModelProto:
    model = linear_model()
    model.ir_version, model.opset_import[0].version = ir_version, opset
    return model


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (float_model(times(0.0)), "two different images give the same embedding"),
        (float_model(times(float("nan"))), "are not finite"),
        (enormous(), "GiB of memory"),
        (tiled(1, 2**32), "GiB of memory"),
        (tiled(2**62, 2**62), r"cannot load it .operator Tile: Integer overflow"),
        (overflowing(), "the network does not run: operator Conv: "),
        (newer(99, 17), r"written in a newer ONNX \(IR 99, opset 17\) .* pip install -U"),
        (newer(8, 99), r"written in a newer ONNX \(IR 8, opset 99\) .* opset_version=17"),
        (quantised_output(), "output is int8; .* behind DequantizeLinear"),
        (of_another_library(), "onnxruntime cannot load it .*domain"),
        (many_outputs(), r"and 990 more; an embedder has exactly one"),
        (quality_first(), 'such as output = "fc1"'),
        (detector(), "none of these is, so choose another file .detectors"),
        (classifier(), "these are a classifier's probabilities; export the network without"),
    ],
    ids=[
        "constant",
        "nan",
        "enormous",
        "large tile",
        "overflowing tile",
        "overflowing padding",
        "newer IR",
        "newer opset",
        "int8 output",
        "own operator",
        "many outputs",
        "quality first",
        "detector",
        "classifier",
    ],
)
def test_behaviour_unlike_a_face_network_is_reported(
    tmp_path: Path, model: onnx.ModelProto, words: str
):
    with pytest.raises(UserError, match=words) as caught:
        OnnxEmbedder(save(tmp_path, model), PREPROCESSING)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_a_web_page_is_named_as_such(tmp_path: Path):
    (tmp_path / "teacher.onnx").write_text("<!DOCTYPE html><html></html>")
    with pytest.raises(UserError, match=r"a web page .*, not an ONNX file; download it again"):
        OnnxEmbedder(tmp_path / "teacher.onnx", PREPROCESSING)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(UserError, match="no such file"):
            OnnxEmbedder(path, PREPROCESSING)


@pytest.mark.parametrize("kept", [0, 1, 0.3, 0.9, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float):
    whole = linear_model().SerializeToString()
    path = tmp_path / "teacher.onnx"
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=r"teacher\.onnx: "):
        OnnxEmbedder(path, PREPROCESSING)


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=300))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.mktemp("random") / "teacher.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match="teacher"):
        OnnxEmbedder(path, PREPROCESSING)
