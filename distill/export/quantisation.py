"""Static int8 quantisation of an ONNX graph: weights per channel, inputs of layers per tensor.

Every convolution and fully connected layer has int8 weights. The scale of each output channel
minimises the mean squared error. The inputs of layers are uint8, with ranges chosen by the same
rule on calibration faces. A layer that is too sensitive keeps its input in float, which costs no
bytes. Additions and activations between layers stay in float. Sources: Jacob et al., 2018 (the
arithmetic); Nagel et al., A White Paper on Neural Network Quantization, 2021, section 3 (range
setting by MSE).
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distill.export.golden import cosines
from teachers.onnxruntime_sessions import open_session

if TYPE_CHECKING:
    import onnx

LAYERS = ("Conv", "Gemm", "MatMul")
CANDIDATES = np.linspace(0.2, 1.0, 33)
"""Candidate ranges, as shares of the full range"""
SAMPLES = 128
"""Sampled values per tensor and image"""
BATCH = 8
GRAPH = "the graph in the making"
"""The name of our own graphs in messages of onnxruntime"""


@dataclass(frozen=True)
class Range:
    """The scale and zero point of a tensor's uint8 values."""

    scale: float
    zero: int

    @property
    def largest(self) -> float:
        """The largest absolute value that can be represented."""
        return self.scale * max(self.zero, 255 - self.zero)


def named(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A copy in which each node is named after its output, because layers are listed by name."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        node.name = node.output[0]
    return copy


def layers(model: "onnx.ModelProto") -> list["onnx.NodeProto"]:
    """The layers with constant weights, in order."""
    constants = {each.name: len(each.dims) for each in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in LAYERS and constants.get(node.input[1], 0) >= 2
    ]


def weight_scales(weights: np.ndarray) -> np.ndarray:
    """The scale of each row of ``weights`` [C, ...] with the least int8 error: float32 [C]."""
    rows = weights.reshape(len(weights), -1)
    largest = np.maximum(np.abs(rows).max(axis=1), np.finfo(np.float32).tiny)
    errors = [
        np.square(np.clip(np.rint(rows / s), -127, 127) * s - rows).sum(axis=1)
        for s in (largest[:, None] * share / 127 for share in CANDIDATES)
    ]
    return (largest * CANDIDATES[np.argmin(errors, axis=0)] / 127).astype(np.float32)


def tensor_range(samples: np.ndarray, lowest: float, highest: float) -> Range:
    """The uint8 range of a tensor with the least error, from sampled values and bounds."""
    found = [_range(lowest * share, highest * share) for share in CANDIDATES]
    return min(found, key=lambda each: float(np.square(_rounded(samples, each) - samples).mean()))


def _range(lowest: float, highest: float) -> Range:
    scale = max((highest - lowest) / 255, float(np.finfo(np.float32).tiny))
    return Range(scale, int(np.clip(round(-lowest / scale), 0, 255)))


def _rounded(values: np.ndarray, of: Range) -> np.ndarray:
    return (np.clip(np.rint(values / of.scale) + of.zero, 0, 255) - of.zero) * of.scale


def calibrate(model: "onnx.ModelProto", pixels: Iterable[np.ndarray]) -> dict[str, Range]:
    """The range of each layer's input over batches of normalised pixels."""
    import onnx

    names = sorted({node.input[0] for node in layers(model)})
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    there = {each.name for each in [*model.graph.output, *model.graph.input]}
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name not in there
    )
    session, given = open_session(watched, GRAPH), model.graph.input[0].name
    random = np.random.default_rng(0)
    samples: dict[str, list[np.ndarray]] = {name: [] for name in names}
    bounds = dict.fromkeys(names, (0.0, 0.0))
    for batch in pixels:
        wanted = [name for name in names if name != given]
        values = dict(zip(wanted, session.run(wanted, {given: batch}), strict=True))
        for name in names:
            value = values.get(name, batch)
            low, high = bounds[name]
            bounds[name] = min(low, float(value.min())), max(high, float(value.max()))
            samples[name].append(random.choice(value.reshape(-1), SAMPLES * len(batch)))
    return {name: tensor_range(np.concatenate(samples[name]), *bounds[name]) for name in names}


def quantise(
    model: "onnx.ModelProto", ranges: Mapping[str, Range], inputs: Sequence[str], weights: bool
) -> "onnx.ModelProto":
    """A copy whose layers in ``inputs`` take uint8; with ``weights``, all weights are int8."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, made = copy.graph, set[str]()
    nodes: list[onnx.NodeProto] = []
    chosen, quantised = set(inputs), {node.name for node in layers(model)}
    arrays = {each.name: each for each in graph.initializer}
    shared: dict[str, str] = {}
    for node in graph.node:
        if node.name in chosen:
            source = node.input[0]
            if source not in made:
                made.add(source)
                nodes.extend(_input_nodes(graph, source, ranges[source]))
            node.input[0] = f"{source}/d"
        if weights and node.name in quantised:
            given = node.input[1]
            if given not in shared:
                nodes.append(_weight_node(graph, node, arrays[given]))
                shared[given] = nodes[-1].output[0]
            node.input[1] = shared[given]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]
    return copy


def _input_nodes(graph: "onnx.GraphProto", name: str, of: Range) -> Iterator["onnx.NodeProto"]:
    import onnx

    # Short names, because there are hundreds of them in files of some hundred kilobytes.
    scale, zero, whole, back = (f"{name}/{each}" for each in "szqd")
    graph.initializer.append(onnx.numpy_helper.from_array(np.float32(of.scale), scale))
    graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(of.zero), zero))
    yield onnx.helper.make_node("QuantizeLinear", [name, scale, zero], [whole])
    yield onnx.helper.make_node("DequantizeLinear", [whole, scale, zero], [back])


def weight_rows(node: "onnx.NodeProto", weights: "onnx.TensorProto") -> np.ndarray:
    """The weights of a layer by output channel: float32 [C, ...]."""
    import onnx

    return np.moveaxis(onnx.numpy_helper.to_array(weights), _output_axis(node), 0)


def _weight_node(
    graph: "onnx.GraphProto", node: "onnx.NodeProto", weights: "onnx.TensorProto"
) -> "onnx.NodeProto":
    import onnx

    rows, axis = weight_rows(node, weights), _output_axis(node)
    scales = weight_scales(rows)
    whole = np.clip(np.rint(rows / scales.reshape(-1, *[1] * (rows.ndim - 1))), -127, 127)
    name = f"{node.name}/w"
    parts = [f"{name}/q", f"{name}/s"]
    graph.initializer.extend(
        [
            onnx.numpy_helper.from_array(
                np.ascontiguousarray(np.moveaxis(whole, 0, axis)).astype(np.int8), parts[0]
            ),
            onnx.numpy_helper.from_array(scales, parts[1]),
        ]
    )
    return onnx.helper.make_node("DequantizeLinear", parts, [name], axis=axis)


def _output_axis(node: "onnx.NodeProto") -> int:
    if node.op_type == "Conv":
        return 0
    turned = any(each.name == "transB" and each.i for each in node.attribute)
    return 0 if node.op_type == "Gemm" and turned else 1


def sensitivity(
    model: "onnx.ModelProto", ranges: Mapping[str, Range], pixels: np.ndarray
) -> dict[str, float]:
    """The cost of a uint8 input for each layer alone: 1 minus the mean cosine of embeddings."""
    expected = RunningGraph(model)(pixels)
    costs = {}
    for node in layers(model):
        found = RunningGraph(quantise(model, ranges, [node.name], weights=False))(pixels)
        costs[node.name] = 1 - float(cosines(found, expected).mean())
    return costs


class RunningGraph:
    """A function from normalised pixels float32 [N, 3, H, W] to embeddings float32 [N, D].

    ``digest`` is the SHA-256 of the graph's `file_content`.
    """

    def __init__(self, model: "onnx.ModelProto") -> None:
        self.digest = hashlib.sha256(file_content(model)).hexdigest()
        self._session, self._given = open_session(model, GRAPH), model.graph.input[0].name

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        parts = [pixels[i : i + BATCH] for i in range(0, len(pixels), BATCH)]
        return np.concatenate([self._session.run(None, {self._given: each})[0] for each in parts])


def file_content(model: "onnx.ModelProto") -> bytes:
    """The bytes of a graph's file, equal in every run."""
    return model.SerializeToString(deterministic=True)
