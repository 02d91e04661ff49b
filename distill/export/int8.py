"""How much of a network int8 can have: as much as the gate lets through.

Channels are equalised first. All layers are in int8; if the gate refuses that, the most sensitive
ones keep more of float32, in the end all that the format can keep.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from curation.errors import UserError
from distill.export.equalisation import equalised
from distill.export.exporter import (
    Embed,
    ExportedNetwork,
    Exporter,
    FormatRefusedError,
    check_cosine,
)
from distill.export.golden import add_golden_outputs, golden_cosine, lowest_cosine
from distill.export.int8_gate import MeasuredLoss, passes
from distill.export.quantisation import Range, calibrate, layers, named, sensitivity

if TYPE_CHECKING:
    import onnx

    from distill.export.source import ExportSource

LARGEST = 0.3
"""Share of the bytes of the float32 weights"""
ASKED = 16
"""Faces that the sensitivity is measured on"""
EQUALISED = 96
"""Faces that the ranges of channels are measured on"""
SHOWN = 8
_BATCH = 8

Made = TypeVar("Made")
Judge = Callable[[Embed], list[MeasuredLoss]]
Build = Callable[[list[str]], tuple[Made, Embed]]
"""From the names of layers that keep float32 to what is made of the network, and what runs it"""


class TooManyBytesError(FormatRefusedError):
    """Too much of a network is left in float32 to be worth a format."""


@dataclass(frozen=True)
class Calibrated:
    """An equalised graph whose layers have names, the ranges of their inputs, and what uint8 at
    each alone costs, the most sensitive layer first."""

    model: "onnx.ModelProto"
    ranges: dict[str, Range]
    costs: dict[str, float]

    @property
    def names(self) -> list[str]:
        return [node.name for node in layers(self.model)]


@dataclass(frozen=True)
class Quantised(Generic[Made]):
    """A network in int8 and what runs it: ``costs`` by layer (see `sensitivity`), ``kept`` those
    that keep float32, and what it loses."""

    made: Made
    run: Embed
    costs: dict[str, float]
    kept: list[str]
    losses: list[MeasuredLoss]

    def told(self) -> dict[str, Any]:
        """As JSON."""
        gate = [each.told() for each in self.losses]
        return {"gate": gate, "float_layers": self.kept, "sensitivity": self.costs}

    def __str__(self) -> str:
        worst = ", ".join(f"{name} {cost:.5f}" for name, cost in [*self.costs.items()][:SHOWN])
        return (
            f"{'; '.join(map(str, self.losses)) or 'no measure'}; most sensitive layers, by the "
            f"cosine that uint8 inputs lose: {worst}"
        )


def calibrated(model: "onnx.ModelProto", pixels: np.ndarray) -> Calibrated:
    """By normalised ``pixels`` [N, 3, H, W] of faces."""
    model = named(model)
    if not layers(model):
        raise UserError("the network has no layer with constant weights; int8 has nothing to do")
    model = equalised(model, _batches(_some(pixels, EQUALISED)))
    ranges = calibrate(model, _batches(pixels))
    costs = sensitivity(model, ranges, _some(pixels, ASKED))
    order = sorted(costs, key=lambda name: -costs[name])
    return Calibrated(model, ranges, {name: costs[name] for name in order})


def quantised(
    given: Calibrated, build: Build[Made], judge: Judge, shares: Sequence[float]
) -> Quantised[Made]:
    """What ``build`` makes where the gate passes it: a try for each of the ``shares`` of the layers
    that keep float32, as far as the bytes allow; the last one where the gate passes none."""
    order = [*given.costs]
    found: Quantised[Made] | None = None
    for share in shares:
        kept = order[: round(share * len(order))]
        try:
            made, run = build(kept)
        except TooManyBytesError:
            if found is None:
                raise
            break
        found = Quantised(made, run, given.costs, kept, judge(run))
        if passes(found.losses):
            break
    assert found is not None
    return found


def through_the_gate(
    name: str, source: "ExportSource", build: Build[Made], shares: Sequence[float]
) -> Made:
    """What ``build`` makes of a source's network for the format ``name``.

    The source is told the losses and sensitivities, and keeps what was judged. Raises
    ``FormatRefusedError`` where the gate refuses all tries, ``UserError`` without a calibration.
    """

    def judge(run: Embed) -> list[MeasuredLoss]:
        return source.judge(ExportedNetwork(run, source.preprocessing))

    found = quantised(source.calibrated, build, judge, shares)
    source.told[name] = found.told()
    if not passes(found.losses):
        raise FormatRefusedError(
            f"the {name} format is refused, as it may lose less than 0.2 points of accuracy "
            f"and 2 points of TAR at FAR 1e-3, on a set that is large enough to tell: {found}; "
            "evaluate on larger sets where none can tell, else use onnx-fp16"
        )
    source.judged[name] = found.run
    return found.made


def check_written(found: Exporter, written: Path, bundle: Path, source: "ExportSource") -> None:
    """Raise ``UserError`` where what was ``written`` gives other embeddings than what the gate
    judged, of faces or of the golden images; ``bundle`` gets golden outputs of the latter.

    The network itself is no measure: drawn images are beyond the ranges of faces.
    """
    check = partial(check_cosine, found.name, reference="the graph that passed the gate")
    judged, run = source.judged[found.name], found.start(written)
    faces = _some(source.calibration_pixels, ASKED)
    check(lowest_cosine(run(faces), judged(faces)), "on calibration faces")
    add_golden_outputs(bundle, found.golden, ExportedNetwork(judged, source.preprocessing))
    network = ExportedNetwork(run, source.preprocessing)
    check(golden_cosine(bundle, network, found.golden), "on the golden images")


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
    check_bytes(weight_bytes(made), weight_bytes(model))


def check_bytes(after: int, before: int) -> None:
    """Raise ``TooManyBytesError`` where weights in int8 have more than 0.3 of the bytes."""
    if after > LARGEST * before:
        raise TooManyBytesError(
            f"in int8 the weights have {after:,} of {before:,} bytes, more than {LARGEST} of them, "
            "because too few belong to convolutions and fully connected layers; use onnx-fp16"
        )


def weight_bytes(model: "onnx.ModelProto") -> int:
    """Those of all constants, without their names."""
    return sum(len(each.raw_data) for each in model.graph.initializer)
