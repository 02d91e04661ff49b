"""Quantises as much of a network to int8 as the gate passes.

The first try has all layers in int8. If the gate refuses it, further tries keep more and more of
the most sensitive layers in float32, up to the limit of the format.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from curation.errors import UserError
from distill.export.calibrated_graph import ASKED, Calibrated, evenly_spaced
from distill.export.exported_network import Embed, ExportedNetwork
from distill.export.exporter import Exporter, FormatRefusedError, check_cosine, check_usable
from distill.export.golden import add_golden_outputs, golden_cosine, lowest_cosine
from distill.export.int8_gate import MeasuredLoss, passes
from distill.export.source import ExportSource
from teachers.usable import UnusableEmbeddingsError

if TYPE_CHECKING:
    import onnx

LARGEST = 0.3
"""The largest int8 size, as a share of the bytes of the float32 weights"""
SHOWN = 8

Made = TypeVar("Made")
Judge = Callable[[Embed], list[MeasuredLoss]]
Build = Callable[[list[str]], tuple[Made, Embed]]
"""Maps the names of layers that keep float32 to the quantised network, and a way to run it"""


class TooManyBytesError(FormatRefusedError):
    """Too much of the network is in float32, so the format is not worth its size."""


@dataclass(frozen=True)
class Quantised(Generic[Made]):
    """A network in int8, a way to run it, and its measured ``losses``.

    ``costs`` is the `sensitivity` of each layer; the layers in ``kept`` keep float32. ``unusable``
    says why nothing could be measured.
    """

    made: Made
    run: Embed
    costs: dict[str, float]
    kept: list[str]
    losses: list[MeasuredLoss]
    unusable: str = "no measure"

    def details(self) -> dict[str, Any]:
        """The losses, the layers kept in float32 and the sensitivities, as JSON."""
        gate = [each.details() for each in self.losses]
        return {"gate": gate, "float_layers": self.kept, "sensitivity": self.costs}

    def __str__(self) -> str:
        worst = ", ".join(f"{name} {cost:.5f}" for name, cost in [*self.costs.items()][:SHOWN])
        return (
            f"{'; '.join(map(str, self.losses)) or self.unusable}; most sensitive layers, by the "
            f"cosine that uint8 inputs lose: {worst}"
        )


def quantised(
    given: Calibrated, build: Build[Made], judge: Judge, shares: Sequence[float]
) -> Quantised[Made]:
    """The first result of ``build`` that passes the gate, or the last one if none passes.

    Tries each of ``shares``, the share of layers that keep float32, up to the size limit.
    """
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
        try:
            found = Quantised(made, run, given.costs, kept, judge(run))
        except UnusableEmbeddingsError as error:
            found = Quantised(made, run, given.costs, kept, [], str(error))
        if passes(found.losses):
            break
    assert found is not None
    return found


def through_the_gate(
    name: str, source: ExportSource, build: Build[Made], shares: Sequence[float]
) -> Made:
    """The result of ``build`` for the format ``name`` that passes the gate.

    Records losses and sensitivities in ``source.details``, and the judged network in
    ``source.judged``. Raises ``FormatRefusedError`` if the gate refuses all tries, ``UserError``
    without a calibration.
    """

    def judge(run: Embed) -> list[MeasuredLoss]:
        return source.judge(ExportedNetwork(run, source.preprocessing))

    found = quantised(source.calibrated, build, judge, shares)
    source.details[name] = found.details()
    if not passes(found.losses):
        raise FormatRefusedError(
            f"the {name} format is refused: it must lose less than 0.2 points of accuracy and 2 "
            f"points of TAR at FAR 1e-3, on a set that is large enough to show this: {found}; "
            "if no set is large enough, evaluate on larger ones; otherwise use onnx-fp16"
        )
    source.judged[name] = found.run
    return found.made


def check_written(found: Exporter, written: Path, bundle: Path, source: ExportSource) -> None:
    """Raise ``UserError`` if the ``written`` files and the judged network embed differently.

    Compares calibration faces and the golden images, and adds golden outputs of the judged network
    to ``bundle``. The float32 network is not a reference, because the synthetic golden images
    exceed the ranges of faces.
    """
    check = partial(check_cosine, found.name, reference="the graph that passed the gate")
    judged, run = source.judged[found.name], found.start(written)
    faces = evenly_spaced(source.calibration_pixels, ASKED)
    embeddings = run(faces)
    check(lowest_cosine(embeddings, judged(faces)), "on calibration faces")
    check_usable(found.name, embeddings)
    add_golden_outputs(bundle, found.golden, ExportedNetwork(judged, source.preprocessing))
    network = ExportedNetwork(run, source.preprocessing)
    check(golden_cosine(bundle, network, found.golden), "on the golden images")


def check_quantised(
    made: "onnx.ModelProto", model: "onnx.ModelProto", names: Sequence[str]
) -> None:
    """Raise ``UserError`` if a named layer still has float weights, or the graph is too large.

    Catches lists of layers that match nothing, or everything, because nodes lack names.
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
    """Raise ``TooManyBytesError`` if the int8 weights exceed 0.3 of the float32 bytes."""
    if after > LARGEST * before:
        raise TooManyBytesError(
            f"in int8 the weights have {after:,} of {before:,} bytes, more than {LARGEST} of them, "
            "because too few belong to convolutions and fully connected layers; use onnx-fp16"
        )


def weight_bytes(model: "onnx.ModelProto") -> int:
    """The bytes of all constants, without their names."""
    return sum(len(each.raw_data) for each in model.graph.initializer)
