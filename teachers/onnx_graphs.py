"""Limits on third-party graphs: what an embedding network needs, and nothing unbounded.

Without control flow, and with shapes that depend only on the number of images, a graph needs the
same time and memory for any images. A trial with the later batch size is therefore conclusive.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from curation.errors import UserError

MOST_NODES = 20_000
"""Maximum number of nodes with functions inlined; iresnet200 has about 1,000."""
_ADVICE = "export it again for images of a fixed size, with constants folded"

SHAPE_INPUTS = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "ImageDecoder": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "NonMaxSuppression": (0, 1, 2),
    "NonZero": (0,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "StringSplit": (0,),
    "Tile": (1,),
    "TopK": (1,),
    "Unique": (0,),
    "Upsample": (1,),
}
"""For these operators, the inputs whose values determine the output size."""
MEASURING = ("Shape", "Size")
"""Operators whose outputs depend on the size of their input, not on its values."""


def check_graph(path: Path, model: Any) -> None:
    """Raise ``UserError`` if a model could run without end or grow with the content of images."""
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    weights = len(model.graph.initializer) + len(model.graph.sparse_initializer)
    if sum(map(len, bodies)) > MOST_NODES or weights > MOST_NODES:
        raise UserError(_too_long(path))
    for node in chain.from_iterable(bodies):
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise UserError(
                f"{path}: the graph has control flow ({node.op_type:.40}), which no embedding "
                f"network needs and which is refused; {_ADVICE} (onnxsim does)"
            )
    _check_length(path, model)
    flat = _without_functions(path, model) if model.functions else model
    for node in _sized_by_values(flat.graph):
        raise UserError(
            f"{path}: in the graph, the size of an output of {node.op_type} depends on the pixels, "
            f"so its memory is unbounded; {_ADVICE}"
        )


def _check_length(path: Path, model: Any) -> None:
    """Count nodes with functions inlined; nested functions can expand beyond any memory."""
    functions = {_name(each): each.node for each in model.functions}
    lengths: dict[tuple[str, str, str], int] = {}

    def length(nodes: Any, depth: int) -> int:
        if depth > len(functions):
            raise UserError(f"{path}: the graph has a function that calls itself")
        total = 0
        for node in nodes:
            name = (node.domain, node.op_type, node.overload)
            if name in functions and name not in lengths:
                lengths[name] = length(functions[name], depth + 1)
            total += lengths.get(name, 1)
            if total > MOST_NODES:
                raise UserError(_too_long(path))
        return total

    try:
        length(model.graph.node, 0)
    except RecursionError:
        raise UserError(f"{path}: functions of the graph are nested too deeply") from None


def _too_long(path: Path) -> str:
    return (
        f"{path}: the graph has more than {MOST_NODES:,} nodes or weights; no embedding network "
        f"has so many"
    )


def _name(function: Any) -> tuple[str, str, str]:
    return function.domain, function.name, function.overload


def _without_functions(path: Path, model: Any) -> Any:
    import onnx.inliner

    try:
        return onnx.inliner.inline_local_functions(model)
    except MemoryError:
        raise
    except Exception as error:  # of its own type, or raised in C++
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        raise UserError(f"{path}: not a whole ONNX graph: {reason}; export it again") from None


def _sized_by_values(graph: Any) -> Iterator[Any]:
    """Nodes with an output whose size depends on the values of the graph's inputs."""
    constants = {each.name for each in graph.initializer}
    from_values = {each.name for each in graph.input} - constants
    for node in graph.node:
        shapes = SHAPE_INPUTS.get(node.op_type, ())
        if any(node.input[i] in from_values for i in shapes if i < len(node.input)):
            yield node
        if node.op_type not in MEASURING and not from_values.isdisjoint(node.input):
            from_values.update(each for each in node.output if each)
