"""A network for LiteRT (formerly TensorFlow Lite): ``model.tflite``, float32, one image NCHW."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

from distill.export.exported_network import Embed, one_at_a_time
from distill.export.exporter import Exporter, exporter
from distill.export.source import ExportSource, quiet

FILE = "model.tflite"


@exporter("litert")
class LiteRtExporter(Exporter):
    """Converts the folded network with litert-torch."""

    card = "`model.tflite` is the same network for LiteRT; one image [1, 3, H, W]."
    extra = "litert"
    writes_with = ("litert_torch", "ai_edge_litert")
    runs_with = ("ai_edge_litert",)
    confined = True

    def export(self, folder: Path, source: ExportSource) -> None:
        import litert_torch
        import torch

        example = (torch.zeros(1, 3, *source.size),)
        with quiet(), redirect_stdout(StringIO()):
            litert_torch.convert(source.folded, example).export(str(folder / FILE))

    def run(self, folder: Path) -> Embed:
        from ai_edge_litert.interpreter import Interpreter

        network = Interpreter(str(folder / FILE), num_threads=self.threads())
        network.allocate_tensors()
        (given,), (found,) = network.get_input_details(), network.get_output_details()

        def run(pixels: np.ndarray) -> np.ndarray:
            network.set_tensor(given["index"], pixels)
            network.invoke()
            return network.get_tensor(found["index"]).copy()

        return one_at_a_time(run)
