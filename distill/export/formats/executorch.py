"""A network for ExecuTorch: ``model.pte``, float32 on XNNPACK, one image."""

from pathlib import Path

import numpy as np

from distill.export.exported_network import Embed, one_at_a_time
from distill.export.exporter import Exporter, exporter
from distill.export.source import ExportSource, quiet

FILE = "model.pte"


@exporter("executorch")
class ExecuTorchExporter(Exporter):
    """Lowers the folded network with ExecuTorch to XNNPACK."""

    card = "`model.pte` is the same network for ExecuTorch with XNNPACK; one image [1, 3, H, W]."
    extra = "executorch"
    writes_with = runs_with = ("executorch",)
    confined = True

    def export(self, folder: Path, source: ExportSource) -> None:
        with quiet():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            lowered = to_edge_transform_and_lower(
                source.program, partitioner=[XnnpackPartitioner()]
            )
            (folder / FILE).write_bytes(lowered.to_executorch().buffer)

    def run(self, folder: Path) -> Embed:
        with quiet():
            import torch
            from executorch.runtime import Runtime

            program = Runtime.get().load_program(folder / FILE)
            network = program.load_method("forward")

        def run(pixels: np.ndarray) -> np.ndarray:
            (embedding,) = network.execute([torch.from_numpy(pixels)])
            return embedding.numpy()

        return one_at_a_time(run)
