"""The ONNX file with int8 weights, and inputs of layers in uint8 as far as the gate bears them."""

from pathlib import Path

from curation.errors import UserError
from distill.export.exporter import Embed, ExportedNetwork, FormatRefusedError, exporter
from distill.export.formats.onnx import OnnxExporter
from distill.export.golden import golden_cosine
from distill.export.source import ExportSource


@exporter("onnx-int8")
class OnnxInt8Exporter(OnnxExporter):
    """``model.int8.onnx``; see `distill.export.int8`. The golden images are no faces, which is what
    the ranges are of: faces are the gate's."""

    card = (
        "`model.int8.onnx` has int8 weights, at less than a third of the bytes; it takes and gives "
        "float32."
    )
    file = "model.int8.onnx"
    minimum_cosine = 0.9

    def export(self, folder: Path, source: ExportSource) -> None:
        from distill.export.compaction import compacted
        from distill.export.int8 import quantised
        from distill.export.int8_gate import MeasuredLoss, passes
        from distill.export.quantisation import named, running

        given = source.calibration
        if given is None or given.gate is None:
            raise UserError(
                "the onnx-int8 format is calibrated on faces and judged on sets: give `--calibrate "
                "SET` with at least 500 faces like those of the training, and `--evaluate SET`"
            )
        pixels = given.pixels(source.preprocessing)
        model = named(source.onnx)
        compare = given.gate(ExportedNetwork(running(model), source.preprocessing))

        def judge(run: Embed) -> list[MeasuredLoss]:
            return compare(ExportedNetwork(run, source.preprocessing))

        found = quantised(model, pixels, judge)
        source.told[self.name] = found.told()
        if not passes(found.losses):
            raise FormatRefusedError(
                f"the onnx-int8 format is refused, as it may lose less than 0.2 points of accuracy "
                f"and 2 points of TAR at FAR 1e-3, on a set that is large enough to tell: {found}"
            )
        (folder / self.file).write_bytes(
            compacted(found.model).SerializeToString(deterministic=True)
        )

    def check(self, written: Path, bundle: Path, source: ExportSource) -> None:
        """By the golden images; random pixels are beyond the ranges of faces."""
        run = ExportedNetwork(self.start(written), source.preprocessing)
        self.check_cosine(golden_cosine(bundle, run), "on the golden images")
