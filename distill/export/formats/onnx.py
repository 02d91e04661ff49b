"""A network as one ONNX file: float32 ``image`` [N, 3, H, W] to ``embedding`` [N, D], any N.

Normalisation, parallel branches and shortcuts are folded into the convolutions first; see
`teachers.folding` for the exceptions.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from distill.export.exporter import Embed, Exporter, exporter
from distill.export.source import INPUT_NAME, OUTPUT_NAME, ExportSource
from teachers.embedder import Embedder
from teachers.foreign import OnnxEmbedder
from teachers.onnx_files import read_onnx
from teachers.preprocessing import Preprocessing


@exporter("onnx")
class OnnxExporter(Exporter):
    """``model.onnx``, from torch's exporter."""

    card = "`model.onnx` is the same network for any ONNX runtime; its output is not normalised."
    file: ClassVar[str] = "model.onnx"

    def export(self, folder: Path, source: ExportSource) -> None:
        (folder / self.file).write_bytes(source.onnx.SerializeToString(deterministic=True))

    def run(self, folder: Path) -> Embed:
        session = open_session(folder / self.file, self.threads())

        def run(pixels: np.ndarray) -> np.ndarray:
            (embeddings,) = session.run([OUTPUT_NAME], {INPUT_NAME: pixels})
            return embeddings

        return run

    def embedder(self, folder: Path, preprocessing: Preprocessing) -> Embedder:
        """Runs on the GPU if onnxruntime has one, and only after a trial in a confined process."""
        return OnnxEmbedder(folder / self.file, preprocessing)


def open_session(path: Path, threads: int) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU that logs errors only.

    Raises ``UserError`` like `read_onnx`, which reads nothing outside the bundle.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    model, _ = read_onnx(path)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
