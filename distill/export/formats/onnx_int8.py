"""The ONNX file with int8 weights, and uint8 inputs for as many layers as the gate passes."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distill.export.exporter import Embed, exporter
from distill.export.formats.onnx import OnnxExporter
from distill.export.golden import INT8_COSINE
from distill.export.source import ExportSource

if TYPE_CHECKING:
    import onnx

    from distill.export.int8 import Calibrated

FLOAT_SHARES = (0, 1 / 6, 1 / 2, 1)
"""Shares of the layers that keep float inputs, which cost no bytes; tried in order"""


def in_int8(given: "Calibrated", kept: list[str]) -> tuple["onnx.ModelProto", Embed]:
    """The graph with int8 weights, and uint8 inputs outside ``kept`` layers; and how to run it."""
    from distill.export.compaction import compacted, half_slopes
    from distill.export.int8 import check_quantised
    from distill.export.quantisation import RunningGraph, quantise

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
        from distill.export.int8 import through_the_gate
        from distill.export.quantisation import file_content

        build = partial(in_int8, source.calibrated)
        made = through_the_gate(self.name, source, build, FLOAT_SHARES)
        (folder / self.file).write_bytes(file_content(made))

    def check(self, written: Path, bundle: Path, source: ExportSource) -> None:
        from distill.export.int8 import check_written

        check_written(self, written, bundle, source)
