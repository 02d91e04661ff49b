"""The ONNX file with weights and arithmetic in float16; input and output stay float32.

For accelerators that compute in float16. It is slower on CPUs without such instructions.
"""

from pathlib import Path

from distill.export.exporter import exporter
from distill.export.formats.onnx import OnnxExporter
from distill.export.source import ExportSource, quiet
from teachers.onnxruntime_sessions import load_onnxruntime


@exporter("onnx-fp16")
class OnnxHalfExporter(OnnxExporter):
    """``model.fp16.onnx``, from the converter in onnxruntime."""

    card = "`model.fp16.onnx` computes in float16, at half the size; it takes and gives float32."
    file = "model.fp16.onnx"

    def export(self, folder: Path, source: ExportSource) -> None:
        load_onnxruntime()
        from onnxruntime.transformers.float16 import convert_float_to_float16

        with quiet():
            half = convert_float_to_float16(source.onnx, keep_io_types=True)
        (folder / self.file).write_bytes(half.SerializeToString(deterministic=True))
