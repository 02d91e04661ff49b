"""Graphs that would run without end or without bound are refused in one line, quickly."""

import multiprocessing
import pickle
import re
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from curation.errors import UserError
from teachers import foreign
from teachers.foreign import BATCH, OnnxEmbedder
from teachers.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(colour="RGB", mean=0, std=1, size=(4, 4))
node = helper.make_node


def whole(value, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, np.int64), name)


def model(nodes: list, *constants: onnx.TensorProto, functions=(), batch="N") -> onnx.ModelProto:
    """``image`` [N, 3, 4, 4] to ``out``; ``fc`` [N, 5] is computed from the image."""
    weights = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
    graph = helper.make_graph(
        [node("Flatten", ["image"], ["flat"]), node("MatMul", ["flat", "weights"], ["fc"]), *nodes],
        "teacher",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 4, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "weights"), *constants],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


def save(folder: Path, made: onnx.ModelProto) -> Path:
    path = folder / "teacher.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def function(name: str, nodes: list) -> onnx.FunctionProto:
    return helper.make_function("own", name, ["x"], ["y"], nodes, [helper.make_opsetid("", 18)])


def branch(name: str) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return helper.make_graph([node("Identity", ["fc"], [name])], name, [], [value])


def a_branch() -> list:
    go = node("Constant", [], ["go"], value=numpy_helper.from_array(np.array(True)))
    either = node("If", ["go"], ["out"], then_branch=branch("a"), else_branch=branch("b"))
    return [go, either]


def calls(name: str, nodes: list) -> tuple[list, tuple]:
    """A graph that calls a function with these nodes."""
    return [node(name, ["fc"], ["out"], domain="own")], (function(name, nodes),)


def doubling(levels: int) -> tuple[list, tuple]:
    """Each function calls the previous one twice."""
    made = [function("f0", [node("Neg", ["x"], ["y"])])]
    for i in range(levels):
        twice = [
            node(f"f{i}", ["x"], ["z"], domain="own"),
            node(f"f{i}", ["z"], ["y"], domain="own"),
        ]
        made.append(function(f"f{i + 1}", twice))
    return [node(f"f{levels}", ["fc"], ["out"], domain="own")], tuple(made)


def added(nodes: list, large: str = "large") -> list:
    """The sum of the nodes' output, added to the embedding."""
    return [*nodes, node("ReduceSum", [large], ["sum"], keepdims=0),
            node("Add", ["fc", "sum"], ["out"])]  # fmt: skip


def concatenated(levels: int) -> list:
    """Each output is twice as long as the previous one."""
    names = ["fc", *(f"c{i}" for i in range(levels - 1)), "large"]
    pairs = pairwise(names)
    return added([node("Concat", [old, old], [new], axis=1) for old, new in pairs])


NEVER = {
    "If": (model(a_branch()), "control flow .If."),
    "If in a function": (
        model(*calls("f", [*a_branch(), node("Identity", ["x"], ["y"])])[:1],
              functions=calls("f", [*a_branch(), node("Identity", ["x"], ["y"])])[1]),
        "control flow .If.",
    ),
    "functions of functions": (
        model(doubling(60)[0], functions=doubling(60)[1]), "more than 20,000 nodes",
    ),
    "a function of itself": (
        model(calls("f", [node("f", ["x"], ["y"], domain="own")])[0],
              functions=calls("f", [node("f", ["x"], ["y"], domain="own")])[1]),
        "a function that calls itself",
    ),
    "many nodes": (
        model([node("Neg", ["fc"], [f"n{i}"]) for i in range(20_001)]), "more than 20,000 nodes",
    ),
    "doubled lengths": (model(concatenated(40)), "more than 1.5 GiB|does not run|cannot load"),
    "huge Expand": (
        model(added([node("Expand", ["fc", "to"], ["large"])]), whole([1 << 28, 1, 5], "to")),
        "more than 1.5 GiB",
    ),
    "huge Tile": (
        model(added([node("Tile", ["fc", "by"], ["large"])]), whole([1, 1 << 30], "by")),
        "more than 1.5 GiB|Tile output tensor would require more",
    ),
    "huge Pad": (
        model(added([node("Pad", ["fc", "by"], ["large"])]), whole([0, 0, 0, 1 << 30], "by")),
        "more than 1.5 GiB",
    ),
    "huge Range": (
        model(added([node("Range", ["from", "to", "by"], ["r"]),
                     node("Cast", ["r"], ["large"], to=TensorProto.FLOAT)]),
              whole(0, "from"), whole(1 << 40, "to"), whole(1, "by")),
        "more than 1.5 GiB|cannot load",
    ),
    "grows with the images": (
        model(added([node("Shape", ["image"], ["s"], end=1), node("Pow", ["s", "p"], ["n"]),
                     node("ConstantOfShape", ["n"], ["large"])]), whole(10, "p")),
        "8 images take more than 1.5 GiB",
    ),
    "sized by pixels": (
        model(added([node("ReduceSum", ["image"], ["s"], keepdims=0),
                     node("Cast", ["s"], ["n"], to=TensorProto.INT64),
                     node("Range", ["from", "n", "by"], ["r"]),
                     node("Cast", ["r"], ["large"], to=TensorProto.FLOAT)]),
              whole(0, "from"), whole(1, "by")),
        "the size of an output of Range depends on the pixels",
    ),
    "sized by pixels in a function": (
        model([node("f", ["fc"], ["g"], domain="own"), *added([node("NonZero", ["g"], ["r"]),
               node("Cast", ["r"], ["large"], to=TensorProto.FLOAT)])],
              functions=(function("f", [node("Neg", ["x"], ["y"])]),)),
        "an output of NonZero",
    ),
    "a million at once": (
        model([node("Identity", ["fc"], ["out"])], batch=20_000_000), "more than 1.5 GiB",
    ),
    "text": (
        model([node("Cast", ["fc"], ["out"], to=TensorProto.STRING)]), "cannot load|does not run",
    ),
    "a sequence": (
        model([node("SequenceConstruct", ["fc"], ["out"])]), "cannot load|does not run",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def small_process() -> Iterator[ProcessPoolExecutor]:
    """A child's peak memory starts at that of its parent, which tests increase."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        yield pool


def opened(path: Path) -> tuple[str, float, int]:
    """The refusal, the CPU seconds, and the peak memory in KiB of all trials so far."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(UserError) as error:
        OnnxEmbedder(path, PREPROCESSING)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return str(error.value), after.ru_utime - before.ru_utime, after.ru_maxrss


@pytest.mark.parametrize("name", NEVER)
def test_endless_or_unbounded_graphs_are_refused_quickly(
    small_process: ProcessPoolExecutor, tmp_path: Path, name: str
):
    made, words = NEVER[name]
    message, seconds, peak = small_process.submit(opened, save(tmp_path, made)).result()
    assert re.search(words, message)
    assert "\n" not in message
    assert seconds < 15
    assert 50_000 < peak < 2 << 20


def test_a_long_computation_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(foreign, "TRIAL_SECONDS", 1)
    large = numpy_helper.from_array(np.ones((1_000, 1_000), np.float32), "square")
    names = ["start", *(f"m{i}" for i in range(400))]
    steps = [node("MatMul", [old, "square"], [new]) for old, new in pairwise(names)]
    made = model(
        [
            node("ReduceMean", ["image"], ["mean"], keepdims=0),
            node("Add", ["square", "mean"], ["start"]),
            *added(steps, names[-1]),
        ],
        large,
    )  # fmt: skip
    began = time.monotonic()
    with pytest.raises(UserError, match="8 images take more than 1 seconds"):
        OnnxEmbedder(save(tmp_path, made), PREPROCESSING)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, 2 * BATCH + 3])
def test_batch_shapes_and_functions_of_exporters_pass(tmp_path: Path, count: int):
    made = model(
        [
            node("Shape", ["image"], ["shape"]),
            node("Gather", ["shape", "first"], ["n"]),
            node("Concat", ["n", "rest"], ["wanted"], axis=0),
            node("Reshape", ["fc", "wanted"], ["rows"]),
            node("negated", ["rows"], ["out"], domain="own"),
        ],
        whole([0], "first"),
        whole([-1], "rest"),
        functions=(function("negated", [node("Neg", ["x"], ["y"])]),),
    )
    embedder = OnnxEmbedder(save(tmp_path, made), PREPROCESSING)
    images = np.random.default_rng(1).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    weights = numpy_helper.to_array(made.graph.initializer[0])
    flat = images.transpose(0, 3, 1, 2).reshape(count, 48).astype(np.float32)
    np.testing.assert_allclose(embedder.embed(images), -(flat @ weights), rtol=1e-4, atol=1e-2)


def test_another_process_does_not_try_the_file_again(tmp_path: Path, monkeypatch):
    path = save(tmp_path, model([node("Identity", ["fc"], ["out"])]))
    embedder = OnnxEmbedder(path, PREPROCESSING)
    given = pickle.dumps(embedder)

    def no_trial(*arguments: object) -> None:
        raise AssertionError("it was tried again")

    monkeypatch.setattr(foreign, "confined", no_trial)
    images = np.zeros((3, 4, 4, 3), np.uint8)
    assert np.array_equal(pickle.loads(given).embed(images), embedder.embed(images))
    save(tmp_path, model([node("Neg", ["fc"], ["out"])]))
    with pytest.raises(UserError, match="changed while it was opened"):
        pickle.loads(given)


@pytest.mark.parametrize("field", [b"\x0a", b"\x2a", b"\x6a"], ids=["nodes", "weights", "values"])
def test_messages_without_number_do_not_fill_the_memory(tmp_path: Path, field: bytes):
    path, graph = tmp_path / "teacher.onnx", (field + b"\x00") * 2_000_000
    path.write_bytes(b"\x08\x08\x3a" + length(graph) + graph)
    with pytest.raises(UserError, match=r"cannot load|more than 20,000 nodes|more than 1\.5 GiB"):
        OnnxEmbedder(path, PREPROCESSING)


def test_messages_in_messages_are_refused(tmp_path: Path):
    inner = b""
    for _ in range(5_000):
        # A graph that holds a node that holds an attribute that holds a graph
        attribute = b"\x32" + length(inner) + inner
        of_node = b"\x2a" + length(attribute) + attribute
        inner = b"\x0a" + length(of_node) + of_node
    path = tmp_path / "teacher.onnx"
    path.write_bytes(b"\x08\x08\x3a" + length(inner) + inner)
    with pytest.raises(UserError, match="not an ONNX file"):
        OnnxEmbedder(path, PREPROCESSING)


def length(message: bytes) -> bytes:
    """The length prefix of protocol buffers."""
    number, written = len(message), bytearray()
    while number >= 128:
        written.append(number % 128 + 128)
        number //= 128
    return bytes([*written, number])
