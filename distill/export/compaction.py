"""Shrinks an ONNX graph, which matters for small networks with int8 weights.

Names in the graph and attributes with default values take a few hundred bytes per layer. PReLU has
a slope per channel, nearly as many as there are biases.
"""

import string
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

_LETTERS = string.ascii_lowercase
WINDOWS = {"dilations": 1, "strides": 1, "pads": 0}
"""Attributes of convolutions and pools whose default is this number for every axis"""


def half_slopes(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A copy with the slopes of PReLU in float16, cast to float32 at load time."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph, casts = copy.graph, list[onnx.NodeProto]()
    readers = [(name, node, i) for node in graph.node for i, name in enumerate(node.input)]
    for each in graph.initializer:
        reading = [(node, i) for name, node, i in readers if name == each.name]
        slopes = all(node.op_type == "PRelu" and i == 1 for node, i in reading)
        if not reading or not slopes or each.data_type != onnx.TensorProto.FLOAT:
            continue
        values, name = onnx.numpy_helper.to_array(each), each.name
        half = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}/half")
        each.CopyFrom(half)
        casts.append(onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return copy


def compacted(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """An equivalent copy with short names and without default attributes.

    Keeps inputs, outputs, weights and metadata. The graph must not have subgraphs or functions.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    opsets = {each.domain: each.version for each in copy.opset_import}
    kept = {each.name for each in (*graph.input, *graph.output)} | {""}
    fresh = (name for name in _names() if name not in kept)
    short: dict[str, str] = {}
    for node in graph.node:
        node.name = node.doc_string = ""
        attributes = [each for each in node.attribute if not _is_default(node, each, opsets)]
        del node.attribute[:]
        node.attribute.extend(attributes)
        for name in (*node.input, *node.output):
            if name not in kept and name not in short:
                short[name] = next(fresh)
        for names in (node.input, node.output):
            names[:] = [short.get(name, name) for name in names]
    for each in graph.initializer:
        each.name, each.doc_string = short.get(each.name, each.name), ""
    del graph.value_info[:]
    return copy


def _names() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..."""
    before = [""]
    while True:
        before = [name + letter for name in before for letter in _LETTERS]
        yield from before


def _is_default(
    node: "onnx.NodeProto", attribute: "onnx.AttributeProto", opsets: dict[str, int]
) -> bool:
    import onnx

    if node.op_type in ("Conv", "MaxPool", "AveragePool") and attribute.name in WINDOWS:
        return set(attribute.ints) == {WINDOWS[attribute.name]}
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets[node.domain], node.domain)
    except onnx.defs.SchemaError:
        return False
    known = schema.attributes.get(attribute.name)
    if known is None or not known.default_value.type:
        return False
    default, given = (onnx.helper.get_attribute_value(a) for a in (known.default_value, attribute))
    return default == given
