"""A network as torch.export's archive: ``model.pt2``, for one image.

torch loads such a file with pickle and by names of Python functions, so an untrusted file can run
code. Ours is run when it is written, but never from a bundle; ``model.safetensors`` holds the same
network.
"""

from pathlib import Path

import numpy as np

from distill.export.exported_network import Embed, one_at_a_time
from distill.export.exporter import Exporter, exporter
from distill.export.source import ExportSource, quiet


@exporter("torch-export")
class TorchExporter(Exporter):
    """``model.pt2``, for runtimes that start from torch.export."""

    card = (
        "`model.pt2` is the same network as torch.export wrote it, for one image; loading such a "
        "file can run code, so load only files from people you trust."
    )
    why_not_here = "loading a torch.export file can run code; torch itself runs the same network"

    def export(self, folder: Path, source: ExportSource) -> None:
        import torch

        with quiet():
            torch.export.save(source.program, folder / "model.pt2")

    def run(self, folder: Path) -> Embed:
        import torch

        with quiet():
            network = torch.export.load(folder / "model.pt2").module()

        def run(pixels: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return network(torch.from_numpy(pixels)).numpy()

        return one_at_a_time(run)
