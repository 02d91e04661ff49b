"""How much of a network int8 can have: as much as the gate lets through.

Channels are equalised first. Weights are always int8. The inputs of layers are uint8; if the gate
refuses that, those of the most sensitive layers stay in float, in the end all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curation.errors import UserError
from distill.export.compaction import half_slopes
from distill.export.equalisation import equalised
from distill.export.exporter import Embed
from distill.export.int8_gate import MeasuredLoss, passes
from distill.export.quantisation import calibrate, layers, quantise, running, sensitivity

if TYPE_CHECKING:
    import onnx

LARGEST = 0.3
"""Share of the bytes of the float32 weights"""
ASKED = 16
"""Faces that the sensitivity is measured on"""
EQUALISED = 96
"""Faces that the ranges of channels are measured on"""
FLOAT_SHARES = (0, 1 / 6, 1 / 2, 1)
"""Of the layers, how many keep their inputs in float: one try each"""
SHOWN = 8
_BATCH = 8


@dataclass(frozen=True)
class Quantised:
    """A network in int8: ``costs`` by layer as of `sensitivity`, ``kept`` those whose input is
    float, and what it loses."""

    model: "onnx.ModelProto"
    costs: dict[str, float]
    kept: list[str]
    losses: list[MeasuredLoss]

    def told(self) -> dict[str, Any]:
        """As JSON."""
        gate = [each.told() for each in self.losses]
        return {"gate": gate, "float_inputs": self.kept, "sensitivity": self.costs}

    def __str__(self) -> str:
        worst = ", ".join(f"{name} {cost:.5f}" for name, cost in [*self.costs.items()][:SHOWN])
        return (
            f"{'; '.join(map(str, self.losses)) or 'no measure'}; most sensitive layers, by the "
            f"cosine that uint8 inputs lose: {worst}"
        )


def quantised(
    model: "onnx.ModelProto", pixels: np.ndarray, judge: Callable[[Embed], list[MeasuredLoss]]
) -> Quantised:
    """The network of a graph whose nodes have names (`quantisation.named`), calibrated on
    normalised ``pixels`` [N, 3, H, W]; the last try where the gate passes none."""
    names = [node.name for node in layers(model)]
    if not names:
        raise UserError("the network has no layer with constant weights; int8 has nothing to do")
    model = half_slopes(equalised(model, _batches(_some(pixels, EQUALISED))))
    ranges = calibrate(model, _batches(pixels))
    costs = sensitivity(model, ranges, _some(pixels, ASKED))
    order = sorted(costs, key=lambda name: -costs[name])
    for share in FLOAT_SHARES:
        kept = order[: round(share * len(order))]
        made = quantise(model, ranges, [name for name in names if name not in kept], weights=True)
        check_quantised(made, model, names)
        losses = judge(running(made))
        if passes(losses):
            break
    return Quantised(made, {name: costs[name] for name in order}, kept, losses)


def _some(pixels: np.ndarray, count: int) -> np.ndarray:
    """So many, from all over."""
    return pixels[:: max(1, len(pixels) // count)][:count]


def _batches(pixels: np.ndarray) -> Iterator[np.ndarray]:
    return (pixels[i : i + _BATCH] for i in range(0, len(pixels), _BATCH))


def check_quantised(
    made: "onnx.ModelProto", model: "onnx.ModelProto", names: Sequence[str]
) -> None:
    """Raise ``UserError`` where a named layer still has float weights, or little has become less.

    Lists of layers match nothing, or everything, where nodes have no names.
    """
    import onnx

    graph, int8 = made.graph, onnx.TensorProto.INT8
    whole = {each.name for each in graph.initializer if each.data_type == int8}
    scaled = {node.output[0] for node in graph.node if node.input and node.input[0] in whole}
    done = {node.name for node in graph.node if scaled & set(node.input[1:2])}
    if left := [name for name in names if name not in done]:
        raise UserError(f"{len(left)} layers still have float32 weights, the first is {left[0]!r}")
    before, after = weight_bytes(model), weight_bytes(made)
    if after > LARGEST * before:
        raise UserError(
            f"in int8 the weights have {after:,} of {before:,} bytes, more than {LARGEST} of them: "
            "too few are those of layers; ship the network as onnx-fp16"
        )


def weight_bytes(model: "onnx.ModelProto") -> int:
    """Those of all constants, without their names."""
    return sum(len(each.raw_data) for each in model.graph.initializer)
