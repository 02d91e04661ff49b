"""The ONNX file with int8 weights, and uint8 inputs for as many layers as the gate passes."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distill.export.calibrated_graph import Calibrated
from distill.export.exported_network import Embed
from distill.export.exporter import exporter
from distill.export.formats.onnx import OnnxExporter
from distill.export.golden import INT8_COSINE
from distill.export.int8 import check_quantised, check_written, through_the_gate
from distill.export.quantisation import RunningGraph, file_content, quantise
from distill.export.source import ExportSource

if TYPE_CHECKING:
    import onnx

FLOAT_SHARES = (0, 1 / 6, 1 / 2, 1)
"""Shares of the layers that keep float inputs, which cost no bytes; tried in order"""


def in_int8(given: Calibrated, kept: list[str]) -> tuple["onnx.ModelProto", Embed]:
    """The graph with int8 weights, and uint8 inputs outside ``kept`` layers; and how to run it."""
    from distill.export.compaction import compacted, half_slopes

    inputs = [name for name in given.costs if name not in kept]
    named = half_slopes(quantise(given.model, given.ranges, inputs, weights=True))
    check_quantised(named, given.model, [*given.costs])
    made = compacted(named)
    return made, RunningGraph(made)


@exporter("onnx-int8")
class OnnxInt8Exporter(OnnxExporter):
    """``model.int8.onnx``; see `distill.export.int8`."""

    card = (
        "`model.int8.onnx` has int8 weights, at less than a third of the bytes; it takes and gives "
        "float32."
    )
    file = "model.int8.onnx"
    minimum_cosine = INT8_COSINE
    calibrated = True

    def export(self, folder: Path, source: ExportSource) -> None:
        build = partial(in_int8, source.calibrated)
        made = through_the_gate(self.name, source, build, FLOAT_SHARES)
        (folder / self.file).write_bytes(file_content(made))

    def check(self, written: Path, bundle: Path, source: ExportSource) -> None:
        check_written(self, written, bundle, source)
