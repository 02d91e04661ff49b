"""A network for MNN: ``model.mnn``, float32, with the names of the ONNX graph; one image."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from curation.errors import UserError
from distill.export.exported_network import Embed, one_at_a_time
from distill.export.exporter import Exporter, exporter
from distill.export.source import INPUT_NAME, OUTPUT_NAME, ExportSource

FILE = "model.mnn"
CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"
"""Calls the converter directly, because the package's command reports usage to its vendor and
installs packages to do so."""


@exporter("mnn")
class MnnExporter(Exporter):
    """Converts the ONNX graph with MNN's converter."""

    card = "`model.mnn` is the same network for MNN: input `image`, output `embedding`."
    extra = "mnn"
    writes_with = runs_with = ("MNN",)
    confined = True

    def export(self, folder: Path, source: ExportSource) -> None:
        convert(source, folder / FILE)

    def run(self, folder: Path) -> Embed:
        from MNN import expr, nn

        network = nn.load_module_from_file(
            str(folder / FILE),
            [INPUT_NAME],
            [OUTPUT_NAME],
            precision_mode=expr.PrecisionMode.High,
            thread_num=self.threads(),
        )

        def run(pixels: np.ndarray) -> np.ndarray:
            given = expr.const(np.ascontiguousarray(pixels), list(pixels.shape), expr.NCHW)
            (embedding,) = network.forward([given])
            return np.array(embedding.read(), np.float32).reshape(1, -1)

        return one_at_a_time(run)


def convert(source: ExportSource, model: Path, *options: str) -> None:
    """Write the network as the MNN file ``model``; ``UserError`` if MNN cannot convert it."""
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "model.onnx"
        graph.write_bytes(source.onnx.SerializeToString(deterministic=True))
        files = ["-f", "ONNX", "--modelFile", str(graph), "--MNNModel", str(model)]
        done = subprocess.run(
            [sys.executable, "-c", CONVERT, *files, "--bizCode", "face", *options],
            capture_output=True,
            check=False,
        )
    if done.returncode or not model.is_file():
        raise UserError(
            "MNN cannot convert the network; leave mnn and inspireface out of the formats"
        )
