"""ncnn's pair of files: the graph as text, and the concatenated weights of its layers.

int8 weights take one byte each, with a scale per output channel and one for the layer's input,
which ncnn rounds to int8, symmetric about 0. Source: Tencent/ncnn, wiki "param and model file
structure", and the ``load_model`` of each layer. ncnn's own tools for this, ncnn2table and
ncnn2int8, are not available on PyPI.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.errors import UserError
from distill.export.quantisation import weight_scales

FLOAT_TAG, INT8_TAG = 0, 0x000D4B38
INT8_KEY = 8
"""Key of the layer parameter for int8 weights and scales"""

UNKNOWN = (
    "the network has a layer with weights that ncnn-int8 does not know; leave ncnn-int8 out of the "
    "formats, or take onnx-int8"
)


@dataclass(frozen=True)
class NcnnLayer:
    """A line of the graph with its weights.

    ``tagged`` [outputs, ...] are the weights of a layer that can be int8, else None; ``plain`` are
    the float32 values that follow.
    """

    line: str
    tagged: np.ndarray | None
    plain: np.ndarray

    @property
    def key(self) -> bytes | None:
        """The weights' bytes, which identify the layer in other formats of the same network."""
        return None if self.tagged is None else self.tagged.tobytes()


def read_layers(graph: Path, weights: Path) -> tuple[list[str], list[NcnnLayer]]:
    """Read the two header lines and the layers.

    Raises ``UserError`` for layers whose weights have an unknown format.
    """
    magic, counts, *lines = graph.read_text().splitlines()
    content, at, found = weights.read_bytes(), 0, list[NcnnLayer]()
    for line in lines:
        kind, *_, given = _fields(line)
        tagged: np.ndarray | None = None
        if shape := _tagged_shape(kind, given):
            tag, count = content[at : at + 4], int(np.prod(shape))
            if tag != struct.pack("<I", FLOAT_TAG) or at + 4 + 4 * count > len(content):
                raise UserError(UNKNOWN)
            tagged = np.frombuffer(content, "<f4", count, at + 4).reshape(shape)
            at += 4 + 4 * count
            plain = shape[0] * bool(given.get(5 if kind != "InnerProduct" else 1, 0))
        else:
            plain = _plain_count(kind, given)
        if at + 4 * plain > len(content):
            raise UserError(UNKNOWN)
        found.append(NcnnLayer(line, tagged, np.frombuffer(content, "<f4", plain, at)))
        at += 4 * plain
    if at != len(content):
        raise UserError(UNKNOWN)
    return [magic, counts], found


def write_int8(graph: Path, weights: Path, inputs: Mapping[bytes, float]) -> int:
    """Convert layers to int8 in place; returns their number.

    ``inputs`` maps the `NcnnLayer.key` of each to the largest absolute value of its input.
    """
    head, layers = read_layers(graph, weights)
    lines, parts, done = head, list[bytes](), 0
    for layer in layers:
        largest = None if layer.key is None else inputs.get(layer.key)
        if _has_groups_of_channels(layer.line):
            largest = None
        line = layer.line
        if layer.tagged is not None and largest is not None:
            line = f"{line.rstrip()} {INT8_KEY}=1"
            parts.extend(_int8_parts(layer.tagged, layer.plain, largest))
            done += 1
        else:
            if layer.tagged is not None:
                parts.extend((struct.pack("<I", FLOAT_TAG), layer.tagged.tobytes()))
            parts.append(layer.plain.tobytes())
        lines.append(line)
    graph.write_text("\n".join(lines) + "\n")
    weights.write_bytes(b"".join(parts))
    return done


def _int8_parts(tagged: np.ndarray, bias: np.ndarray, largest: float) -> Iterator[bytes]:
    scales = weight_scales(tagged)
    rows = tagged.reshape(len(tagged), -1)
    whole = np.clip(np.rint(rows / scales[:, None]), -127, 127).astype(np.int8).tobytes()
    yield struct.pack("<I", INT8_TAG)
    yield whole + bytes(-len(whole) % 4)
    yield bias.tobytes()
    yield (1 / scales).astype("<f4").tobytes()
    yield struct.pack("<f", 127 / largest)


def _fields(line: str) -> tuple[str, str, dict[int, float]]:
    """Kind, name and numeric parameters of a layer's line."""
    kind, name, inputs, outputs, *rest = line.split()
    given = (each.partition("=") for each in rest[int(inputs) + int(outputs) :])
    return kind, name, {int(key): float(value) for key, _, value in given if "," not in value}


def _has_groups_of_channels(line: str) -> bool:
    """Whether groups have several channels, which would share the one scale that ncnn allows."""
    kind, _, given = _fields(line)
    return kind == "ConvolutionDepthWise" and given.get(7, 1) != given[0]


def _tagged_shape(kind: str, given: Mapping[int, float]) -> tuple[int, ...] | None:
    """(outputs, weights per output) of a layer that can be int8; None for other layers."""
    if kind not in ("Convolution", "ConvolutionDepthWise", "InnerProduct"):
        return None
    outputs, count = int(given[0]), int(given[2 if kind == "InnerProduct" else 6])
    return outputs, count // outputs


def _plain_count(kind: str, given: Mapping[int, float]) -> int:
    """The number of float32 values of a layer that cannot be int8."""
    if kind == "PReLU":
        return int(given[0])
    if kind == "BatchNorm":
        return 4 * int(given[0])
    if kind == "MemoryData":
        return int(np.prod([int(given.get(i, 0)) or 1 for i in (0, 1, 2, 11)]))
    if kind in ("LayerNorm", "GroupNorm"):
        channels, affine = (0, 2) if kind == "LayerNorm" else (1, 3)
        return 2 * int(given.get(channels, 0)) * int(given.get(affine, 1))
    return 0
