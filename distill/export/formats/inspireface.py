"""A model pack for InspireFace: ``model.inspireface``, an uncompressed tar with the MNN file.

It has only the section ``feature``; the detector and the other models come from InspireFace's own
packs. InspireFace itself scales the pixels and normalises the embedding. It has no mirror rule.
Source: InspireFace's readers ``inspire_archive.h`` and ``inspire_model.h``.
"""

import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.files import read_whole
from distill.export.decision import choose_decision
from distill.export.exported_network import Embed
from distill.export.exporter import exporter
from distill.export.formats.mnn import FILE as MNN_FILE
from distill.export.formats.mnn import MnnExporter, convert
from distill.export.source import INPUT_NAME, OUTPUT_NAME, ExportSource
from teachers.preprocessing import channels

FILE = "model.inspireface"
MANIFEST, MODEL = "__inspire__", "feature"
DIMENSIONS, SIZE = 512, (112, 112)
"""Constants in InspireFace"""
CURVE = {"middle_score": 0.6, "steepness": 8.0, "output_min": 0.01, "output_max": 1.0}
"""How InspireFace shows a cosine as a percentage; its reader fails if a key is missing."""
LARGEST = 1 << 31


@exporter("inspireface")
class InspireFaceExporter(MnnExporter):
    """Packs the MNN file with a manifest. ``run`` runs the MNN file with MNN."""

    card = (
        "`model.inspireface` is an InspireFace model pack with the section `feature` alone. Its "
        "MNN file was run and compared; InspireFace itself was not run."
    )

    def export(self, folder: Path, source: ExportSource) -> None:
        length = source.onnx.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        if reason := self.why_not_fit(length, source.size):
            raise UserError(reason)
        with tempfile.TemporaryDirectory() as scratch:
            model = Path(scratch) / MNN_FILE
            # InspireFace's image processing fills a tensor in the layout of the session.
            convert(source, model, "--keepInputFormat=0")
            content = model.read_bytes()
        manifest = json.dumps(manifest_of(source), indent=2).encode() + b"\n"  # JSON is YAML
        with tarfile.open(folder / FILE, "w", format=tarfile.USTAR_FORMAT) as pack:
            for name, each in ((MANIFEST, manifest), (MODEL, content)):
                entry = tarfile.TarInfo(name)
                entry.size = len(each)
                pack.addfile(entry, io.BytesIO(each))

    def why_not_fit(self, length: int, size: tuple[int, int]) -> str | None:
        if (length, size) == (DIMENSIONS, SIZE):
            return None
        return (
            f"InspireFace takes networks of 112x112 pixels and {DIMENSIONS} dimensions; this one "
            f"has {size[0]}x{size[1]} and {length}: train one with `student.embedding = "
            f"{DIMENSIONS}`, or leave inspireface out of the formats"
        )

    def run(self, folder: Path) -> Embed:
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / MNN_FILE).write_bytes(_model_in(folder / FILE))
            return super().run(Path(scratch))


def manifest_of(source: ExportSource) -> dict[str, Any]:
    """The description of the network for InspireFace."""
    preprocessing = source.preprocessing
    manifest: dict[str, Any] = {
        "tag": "face-distill",
        "version": "1.0",
        "major": "1",
        "release": "1",
        MODEL: {
            "name": MODEL,
            "fullname": MNN_FILE,
            "version": "1.0",
            "model_type": "MNN",
            "infer_engine": "MNN",
            "infer_device": "MNN",
            "infer_backend": "CPU",
            "data_type": "image",
            "input_tensor_type": "float32",
            "output_tensor_type": "float32",
            "input_layer": INPUT_NAME,
            "outputs_layers": [OUTPUT_NAME],
            "input_size": [preprocessing.size[1], preprocessing.size[0]],
            "input_channel": 3,
            "input_image_channel": 3,
            "mean": channels(preprocessing.mean),
            "norm": [1 / each for each in channels(preprocessing.std)],
            "nchw": True,
            # InspireFace's images are BGR.
            "swap_color": preprocessing.colour == "RGB",
            "threads": 1,
        },
    }
    decision = source.thresholds and choose_decision(source.thresholds)
    if decision:
        manifest["similarity_converter"] = {"threshold": round(decision.cosine, 6), **CURVE}
    return manifest


def _model_in(path: Path) -> bytes:
    content = read_whole(path, LARGEST)
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as pack:
            file = pack.extractfile(MODEL)
            found = b"" if file is None else file.read()
    except (tarfile.TarError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{path}: not an InspireFace pack ({error}); use another format") from None
    if not found:
        raise UserError(f"{path}: its {MODEL!r} is empty; use another format")
    return found
