"""Small ONNX networks with known weights."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from teachers.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(colour="RGB", mean=0, std=1, size=(4, 4))


DIMENSIONS = 5


WEIGHTS = np.random.default_rng(0).normal(size=(48, DIMENSIONS)).astype(np.float32)


def linear_model(
    input_shape: tuple = ("N", 3, 4, 4), inputs: int = 1, flatten: bool = True
) -> onnx.ModelProto:
    """flatten -> MatMul, or the unchanged images."""
    values = [
        helper.make_tensor_value_info(f"data{i}", TensorProto.FLOAT, input_shape)
        for i in range(inputs)
    ]
    output_shape = (input_shape[0], DIMENSIONS) if flatten else input_shape
    output = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, output_shape)
    nodes = [helper.make_node("Identity", ["data0"], ["fc1"])]
    if flatten:
        nodes = [
            helper.make_node("Flatten", ["data0"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["fc1"]),
        ]
    initialisers = [numpy_helper.from_array(WEIGHTS, "weights")]
    graph = helper.make_graph(nodes, "teacher", values, [output], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def save(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "teacher.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)


def expected(batch: np.ndarray) -> np.ndarray:
    return batch.transpose(0, 3, 1, 2).reshape(len(batch), 48).astype(np.float32) @ WEIGHTS


def cast_model(kind: int, shape: tuple, nodes: list, output_shape: tuple) -> onnx.ModelProto:
    """An input of another type or layout, converted to float NCHW; ``nodes`` after the MatMul."""
    inputs = [helper.make_tensor_value_info("data", kind, shape)]
    order = [0, 3, 1, 2] if shape[3] == 3 else [0, 1, 2, 3]
    body = [
        helper.make_node("Cast", ["data"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=order),
        helper.make_node("Flatten", ["nchw"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["fc"]),
        *nodes,
    ]
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, output_shape)
    axes = {"zero": [0], "first": [0, 2, 3], "last": [2, 3]}
    initialisers = [numpy_helper.from_array(WEIGHTS, "weights")]
    initialisers += [
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in axes.items()
    ]
    graph = helper.make_graph(body, "teacher", inputs, [output], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SAME = [helper.make_node("Identity", ["fc"], ["out"])]


def float_model(nodes: list, output_shape: tuple = ("N", 5)) -> onnx.ModelProto:
    return cast_model(TensorProto.FLOAT, ("N", 3, 4, 4), nodes, output_shape)
