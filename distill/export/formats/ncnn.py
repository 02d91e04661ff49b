"""A network for ncnn: ``model.ncnn.param`` (the graph) and ``model.ncnn.bin`` (float32 weights).

Converted with pnnx, as Tencent recommends. The blobs are ``in0``, one image [3, H, W], and
``out0``, its embedding.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curation.errors import UserError
from distill.export.exported_network import Embed, one_at_a_time
from distill.export.exporter import Exporter, exporter
from distill.export.source import ExportSource

if TYPE_CHECKING:
    import torch

PNNX_FILES = ("model.ncnn.param", "model.ncnn.bin")


@exporter("ncnn")
class NcnnExporter(Exporter):
    """Converts the folded network with pnnx."""

    card = (
        "`model.ncnn.param` and `model.ncnn.bin` are the same network for ncnn: input `in0`, "
        "output `out0`."
    )
    extra = "ncnn"
    writes_with = ("pnnx",)
    runs_with = ("ncnn",)
    confined = True
    files = PNNX_FILES

    def export(self, folder: Path, source: ExportSource) -> None:
        self.convert(folder, source.traced(source.folded), source.size)

    def convert(
        self, folder: Path, traced: "torch.jit.ScriptModule", size: tuple[int, int]
    ) -> None:
        """Write a network with this input size; ``UserError`` if pnnx cannot convert it."""
        import pnnx

        height, width = size
        with tempfile.TemporaryDirectory() as scratch:
            script = Path(scratch) / "model.pt"
            traced.save(script)
            done = subprocess.run(
                [pnnx.EXEC_PATH, script.name, f"inputshape=[1,3,{height},{width}]", "fp16=0"],
                cwd=scratch,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            if done.returncode or not all((Path(scratch) / name).is_file() for name in PNNX_FILES):
                lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
                raise UserError(
                    f"pnnx cannot convert the network (exit {done.returncode}: "
                    f"{lines[-1] if lines else 'it printed nothing'}); leave {self.name} out of "
                    "the formats"
                )
            for theirs, ours in zip(PNNX_FILES, self.files, strict=True):
                shutil.move(Path(scratch) / theirs, folder / ours)

    def run(self, folder: Path) -> Embed:
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = self.threads()
        net.opt.use_vulkan_compute = False
        # By default, ncnn rounds to float16 or bfloat16 on CPUs with such instructions.
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
        graph, weights = (str(folder / name) for name in self.files)
        if net.load_param(graph) or net.load_model(weights):
            raise UserError(
                f"{folder}: ncnn cannot load {self.files[0]}; update ncnn, or use another format"
            )

        def run(image: np.ndarray) -> np.ndarray:
            with net.create_extractor() as extractor:
                extractor.input("in0", ncnn.Mat(image[0]).clone())
                failed, embedding = extractor.extract("out0")
            if failed:
                raise UserError(
                    f"{folder}: ncnn cannot run {self.files[0]}; update ncnn, or use another format"
                )
            return np.array(embedding, np.float32).reshape(1, -1)

        return one_at_a_time(run)
