"""ONNX networks: mutated bytes, and valid files with mutated graphs."""

import random
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from teachers.foreign import OnnxEmbedder
from teachers.preprocessing import Preprocessing
from tests.fuzz.harness import Files, Special, reader

_PIXELS = Preprocessing(colour="RGB", mean=0, std=1, size=(4, 4))
_NUMBERS = (0, 1, -1, 2, 3, 7, 4096, 10**6, 2**31 - 1, 2**31, 2**40, 2**62, -(2**63))
_OPERATORS = (
    "Expand", "Tile", "Reshape", "Pad", "Range", "ConstantOfShape", "Resize", "Slice", "Gather",
    "Concat", "NonZero", "Loop", "If", "Scan", "SequenceConstruct", "Cast", "MatMul", "Conv", "Pow",
    "Einsum", "Softmax", "Split", "TopK", "Unique", "OneHot", "RandomNormal", "Identity", "Nothing",
)  # fmt: skip


def small_graphs() -> list[Files]:
    """A convolution and a matrix product, as written by an exporter."""
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(12, 5)).astype(np.float32)
    kernel = generator.normal(size=(3, 3, 3, 3)).astype(np.float32)
    make = helper.make_node
    nodes = [
        make("Conv", ["image", "kernel"], ["c"]),
        make("Shape", ["c"], ["shape"], end=1),
        make("Concat", ["shape", "rest"], ["to"], axis=0),
        make("Reshape", ["c", "to"], ["flat"]),
        make("MatMul", ["flat", "weights"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(np.array([-1]), "rest"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return [{"teacher.onnx": model.SerializeToString()}]


def _change_graph(rng: random.Random, files: dict[str, bytes | Special]) -> None:
    """Change one part of the graph; the file stays valid."""
    content = files.get("teacher.onnx")
    try:
        assert isinstance(content, bytes)
        model = onnx.ModelProto.FromString(content)
        rng.choice((_constant, _operator, _insert, _shape, _outside))(rng, model.graph)
        files["teacher.onnx"] = model.SerializeToString()
    except Exception:  # an earlier mutation broke it
        return


def _constant(rng: random.Random, graph: onnx.GraphProto) -> None:
    """Change the shape or the values of a weight tensor."""
    tensor = rng.choice(graph.initializer)
    if rng.random() < 0.5:
        tensor.dims[:] = [rng.choice(_NUMBERS) for _ in range(rng.randrange(4))]
    else:
        numbers = [rng.choice(_NUMBERS) for _ in range(rng.randrange(1, 4))]
        tensor.CopyFrom(numpy_helper.from_array(np.array(numbers), tensor.name))


def _operator(rng: random.Random, graph: onnx.GraphProto) -> None:
    node = rng.choice(graph.node)
    node.op_type = rng.choice(_OPERATORS)
    for attribute in node.attribute:
        attribute.i = rng.choice(_NUMBERS)


def _insert(rng: random.Random, graph: onnx.GraphProto) -> None:
    """Insert a node, with its own constant, between two others."""
    node = rng.choice(graph.node)
    if not node.input:
        return
    name, at = f"new{rng.randrange(10**6)}", rng.randrange(len(node.input))
    numbers = np.array([rng.choice(_NUMBERS) for _ in range(rng.randrange(1, 4))])
    graph.initializer.append(numpy_helper.from_array(numbers, name))
    inputs = rng.choice(([node.input[at], name], [name, node.input[at]], [name], [node.input[at]]))
    added = helper.make_node(rng.choice(_OPERATORS), inputs, [f"{name}.out"])
    node.input[at] = f"{name}.out"
    nodes = [added, *graph.node]
    del graph.node[:]
    graph.node.extend(sorted(nodes, key=lambda each: each is added and rng.random() < 0.5))


def _shape(rng: random.Random, graph: onnx.GraphProto) -> None:
    value = rng.choice([*graph.input, *graph.output]).type.tensor_type
    value.elem_type = rng.choice((1, 1, 1, 7, 8, 9, 10, 16, 99))
    for dimension in value.shape.dim:
        if rng.random() < 0.3:
            dimension.dim_value = rng.choice(_NUMBERS)


def _outside(rng: random.Random, graph: onnx.GraphProto) -> None:
    """Move weights to another file."""
    tensor = rng.choice(graph.initializer)
    tensor.data_location = TensorProto.EXTERNAL
    places = ("teacher.onnx", "../case/teacher.onnx", "/dev/zero", "", ".", "a\0b", "n" * 5_000)
    for key, values in (
        ("location", places),
        ("offset", ("0", "-1", "9" * 30, "x")),
        ("length", ("4", "0", str(2**62), "")),
    ):
        if rng.random() < 0.8:
            tensor.external_data.add(key=key, value=rng.choice(values))


@reader("onnx", small_graphs, [_change_graph, _change_graph, _change_graph], share=0.06)
def read(folder: Path) -> None:
    """Open the network and embed a few images."""
    OnnxEmbedder(folder / "teacher.onnx", _PIXELS).embed(np.zeros((11, 4, 4, 3), np.uint8))
