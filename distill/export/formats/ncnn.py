"""A network for ncnn: ``model.ncnn.param`` (the graph) and ``model.ncnn.bin`` (float32 weights).

By pnnx, which Tencent's documents name as the way there. Its blobs are ``in0``, one image
[3, H, W], and ``out0``, its embedding.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from curation.errors import UserError
from distill.export.exporter import Embed, Exporter, exporter, one_at_a_time
from distill.export.source import ExportSource

FILES = ("model.ncnn.param", "model.ncnn.bin")


@exporter("ncnn")
class NcnnExporter(Exporter):
    """What pnnx makes of the folded network."""

    card = (
        "`model.ncnn.param` and `model.ncnn.bin` are the same network for ncnn: input `in0`, "
        "output `out0`."
    )
    extra = "ncnn"
    writes_with = ("pnnx",)
    runs_with = ("ncnn",)
    confined = True

    def export(self, folder: Path, source: ExportSource) -> None:
        import pnnx

        height, width = source.size
        with tempfile.TemporaryDirectory() as beside:
            script = Path(beside) / "model.pt"
            source.traced().save(script)
            done = subprocess.run(
                [pnnx.EXEC_PATH, script.name, f"inputshape=[1,3,{height},{width}]", "fp16=0"],
                cwd=beside,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
            if done.returncode or not all((Path(beside) / name).is_file() for name in FILES):
                said = (done.stderr.strip() or done.stdout.strip()).splitlines()
                raise UserError(
                    f"pnnx cannot convert the network (exit {done.returncode}: "
                    f"{said[-1] if said else 'it says nothing'}); leave ncnn out of the formats"
                )
            for name in FILES:
                shutil.move(Path(beside) / name, folder / name)

    def run(self, folder: Path) -> Embed:
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = self.threads()
        net.opt.use_vulkan_compute = False
        # On CPUs that have float16 or bfloat16 instructions ncnn rounds to them otherwise.
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
        graph, weights = (str(folder / name) for name in FILES)
        if net.load_param(graph) or net.load_model(weights):
            raise UserError(f"{folder}: ncnn cannot load {FILES[0]}; fetch the bundle again")

        def run(image: np.ndarray) -> np.ndarray:
            with net.create_extractor() as extractor:
                extractor.input("in0", ncnn.Mat(image[0]).clone())
                failed, embedding = extractor.extract("out0")
            if failed:
                raise UserError(f"{folder}: ncnn cannot run {FILES[0]}; fetch the bundle again")
            return np.array(embedding, np.float32).reshape(1, -1)

        return one_at_a_time(run)
