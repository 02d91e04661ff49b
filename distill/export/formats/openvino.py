"""A network for OpenVINO: ``model.xml`` (the graph) and ``model.bin`` (float32 weights), any N."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

from distill.export.exported_network import Embed
from distill.export.exporter import Exporter, exporter
from distill.export.source import ExportSource, quiet


@exporter("openvino")
class OpenVinoExporter(Exporter):
    """Converts the ONNX graph with OpenVINO."""

    card = (
        "`model.xml` and `model.bin` are the same network for OpenVINO; ask it for "
        "`INFERENCE_PRECISION_HINT` f32, because some CPUs otherwise compute in bfloat16."
    )
    extra = "openvino"
    writes_with = runs_with = ("openvino",)
    confined = True

    def export(self, folder: Path, source: ExportSource) -> None:
        import io

        openvino = _openvino()
        with quiet():
            model = openvino.Core().read_model(
                io.BytesIO(source.onnx.SerializeToString(deterministic=True))
            )
            openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)

    def run(self, folder: Path) -> Embed:
        openvino = _openvino()
        wanted = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": self.threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        core = openvino.Core()
        networks: dict[bool, Any] = {}

        def run(pixels: np.ndarray) -> np.ndarray:
            alone = len(pixels) == 1
            if alone not in networks:
                model = core.read_model(folder / "model.xml")
                if alone:  # static shapes are faster
                    model.reshape(pixels.shape)
                networks[alone] = core.compile_model(model, "CPU", wanted)
            return np.array(networks[alone](pixels, share_inputs=True)[0])

        return run


def _openvino() -> Any:
    """OpenVINO without its telemetry.

    Its import tells the vendor that it is used, from a thread that forks this process: the copy may
    wait for ever for a lock that another thread holds.
    """
    sys.modules.setdefault("openvino_telemetry", cast(ModuleType, None))  # cannot be imported
    import openvino

    return openvino
