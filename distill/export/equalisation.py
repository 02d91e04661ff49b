"""Equalises the ranges of channels between layers before int8, without changing the network.

A tensor has one scale in int8, so a channel with a small range gets few of the 256 levels. If one
layer feeds another, with only activations between them that commute with positive factors, an
output channel of the first layer can be divided by a factor, and the input channel of the second
multiplied by it. Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias
Correction, 2019, section 4.1. Here the measured ranges of the tensor replace those of the first
layer's weights, which have a scale per channel and need no equalisation.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distill.export.quantisation import GRAPH, layers
from teachers.onnxruntime_sessions import open_session

if TYPE_CHECKING:
    import onnx
    import torch

ACTIVATIONS = ("PRelu", "Relu", "LeakyRelu")
"""f(s x) = s f(x) for every s > 0"""
SMALLEST = 0.01
"""The least range of a channel, as a share of the largest; some channels are inactive on faces."""


@dataclass(frozen=True)
class Joint:
    """A tensor between two layers, ``before`` and ``after`` it, that no other node reads."""

    before: "onnx.NodeProto"
    tensor: str
    after: "onnx.NodeProto"


def equalised(model: "onnx.ModelProto", pixels: Iterable[np.ndarray]) -> "onnx.ModelProto":
    """An equivalent copy in which the channels between layers have similar ranges.

    The ranges are measured on batches of normalised pixels. The layers of ``model`` must have
    names.
    """
    import onnx

    scaled = onnx.ModelProto()
    scaled.CopyFrom(model)
    found = list(joints(scaled))
    if not found:
        return scaled
    ranges = _channel_ranges(scaled, [each.tensor for each in found], pixels)
    arrays = {each.name: each for each in scaled.graph.initializer}
    for joint, measured in zip(found, ranges, strict=True):
        before, after = (arrays[node.input[1]] for node in (joint.before, joint.after))
        factors = channel_factors(measured, onnx.numpy_helper.to_array(after))
        _scale(before, 1 / factors, axis=0)
        _scale(after, factors, axis=0 if _is_depthwise(after) else 1)
        if len(joint.before.input) > 2:
            _scale(arrays[joint.before.input[2]], 1 / factors, axis=0)
    return scaled


def joints(model: "onnx.ModelProto") -> Iterator[Joint]:
    """The joints of convolutions whose weights and biases no other node reads."""
    readers = Counter(name for node in model.graph.node for name in node.input)
    makers = {node.output[0]: node for node in model.graph.node}
    readers.update(each.name for each in model.graph.output)
    arrays = {each.name: each for each in model.graph.initializer}
    own = [
        node
        for node in layers(model)
        if node.op_type == "Conv" and all(readers[name] == 1 for name in node.input[1:])
    ]
    names = {node.name for node in own}
    for node in own:
        source = node.input[0]
        while (maker := makers.get(source)) and readers[source] == 1:
            if maker.op_type not in ACTIVATIONS:
                break
            source = maker.input[0]
        if maker is None or readers[source] != 1 or maker.name not in names:
            continue
        weights, channels = arrays[node.input[1]].dims, arrays[maker.input[1]].dims[0]
        # Excludes grouped convolutions that are not depthwise: their weights split the channels.
        if weights[1] == channels or (weights[1] == 1 and weights[0] == channels):
            yield Joint(maker, node.input[0], node)


def channel_factors(ranges: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Divisors float32 [C] for channels with ``ranges`` [C] that feed a layer with ``weights``.

    A depthwise layer has a scale per channel, so the ranges become equal. In other layers, the
    weights of all input channels share a scale, so they take half of the difference.
    """
    ranges = np.maximum(ranges, SMALLEST * max(ranges.max(), np.finfo(np.float32).tiny))
    if _is_depthwise(weights):
        factors = ranges
    else:
        columns = np.abs(weights).max(axis=(0, *range(2, weights.ndim)))
        factors = np.sqrt(ranges / np.maximum(columns, SMALLEST * columns.max()))
    return (factors / np.exp(np.log(factors).mean())).astype(np.float32)


def with_weights_of(
    network: "torch.nn.Module", before: "onnx.ModelProto", after: "onnx.ModelProto"
) -> "torch.nn.Module":
    """A copy of ``network``, exported as ``before``, with the weights that ``after`` changed.

    Unchanged if the export renamed one of the weights.
    """
    import onnx
    import torch

    known = {each.name: each for each in before.graph.initializer}
    changed = {
        each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).copy())
        for each in after.graph.initializer
        if each.name in known and each.raw_data != known[each.name].raw_data
    }
    made = copy.deepcopy(network)
    if changed.keys() <= made.state_dict().keys():
        made.load_state_dict(changed, strict=False)
    return made


def _is_depthwise(weights: "np.ndarray | onnx.TensorProto") -> bool:
    dims = weights.shape if isinstance(weights, np.ndarray) else weights.dims
    return dims[1] == 1 and dims[0] > 1


def _channel_ranges(
    model: "onnx.ModelProto", names: list[str], pixels: Iterable[np.ndarray]
) -> list[np.ndarray]:
    """The largest absolute value of each channel, averaged over images: [C] for each name."""
    import onnx

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    helper = onnx.helper
    axes = onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "range/axes")
    watched.graph.initializer.append(axes)
    for name in names:
        size, most = f"{name}/abs", f"{name}/max"
        watched.graph.node.append(helper.make_node("Abs", [name], [size]))
        reduced = helper.make_node("ReduceMax", [size, axes.name], [most], keepdims=0)
        watched.graph.node.append(reduced)
        value = helper.make_tensor_value_info(most, onnx.TensorProto.FLOAT, None)
        watched.graph.output.append(value)
    session, given = open_session(watched, GRAPH), model.graph.input[0].name
    wanted = [f"{name}/max" for name in names]
    batches = [session.run(wanted, {given: batch}) for batch in pixels]
    return [np.concatenate(each).mean(axis=0) for each in zip(*batches, strict=True)]


def _scale(tensor: "onnx.TensorProto", factors: np.ndarray, axis: int) -> None:
    import onnx

    values = onnx.numpy_helper.to_array(tensor)
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]
    scaled = (values * factors.reshape(shape)).astype(values.dtype)
    tensor.CopyFrom(onnx.numpy_helper.from_array(scaled, tensor.name))
