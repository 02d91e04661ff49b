"""The contract in ONNX files: ``metadata_props``, which any model viewer shows."""

import json
from pathlib import Path
from typing import Any

from distill.export.config import BundleConfig
from distill.export.exporter import exporters
from distill.export.framing_words import framing_words
from teachers.onnx_files import read_onnx

LARGEST = 1 << 20
"""The longest value in bytes; longer ones are only in config.json."""
MIRROR = {
    "sum": "normalise(f(image) + f(mirrored image))",
    "none": "normalise(f(image))",
}


def metadata_of(config: BundleConfig) -> dict[str, str]:
    """The metadata of an ONNX file, by key; structures are JSON."""
    face = config.face
    metadata: dict[str, Any] = {
        "input": f"{face.input_name}: float32 [N, 3, {face.preprocessing.size[0]}, "
        f"{face.preprocessing.size[1]}], {face.layout}: an aligned face {framing_words(face)}",
        "colour": face.preprocessing.colour,
        "scale": f"(pixel - {face.preprocessing.mean}) / {face.preprocessing.std}, "
        "of pixels 0 ... 255",
        "template": face.alignment.model_dump(mode="json"),
        "output": f"{face.output_name}: float32 [N, {config.num_features}], not normalised",
        "output_length": str(config.num_features),
        "normalisation": "divide the feature by its L2 length",
        "mirror": f"{face.mirror}: {MIRROR[face.mirror]}",
        "distance": face.distance,
        "architecture": config.architecture,
    }
    if config.thresholds is not None:
        metadata["thresholds"] = config.thresholds.model_dump(mode="json")
    if config.origin is not None:
        origin = config.origin.model_dump(mode="json")
        metadata |= {key: origin[key] for key in ("licences", "data", "scores")}
        metadata["lineage"] = {
            key: origin[key] for key in ("job", "spec", "teachers", "generations")
        }
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
    }
    return {key: text for key, text in texts.items() if len(text.encode()) <= LARGEST}


def stamp(folder: Path, config: BundleConfig) -> None:
    """Write the metadata into every ONNX file of a bundle; the same config gives the same bytes.

    Raises ``UserError`` for a file that is not ONNX.
    """
    for format, names in config.formats.items():
        known = exporters().get(format)
        metadata = metadata_of(config) | (known.contract(config) if known else {})
        for name in names:
            if name.endswith(".onnx"):
                _stamp(folder / name, metadata)


def _stamp(path: Path, metadata: dict[str, str]) -> None:
    model, _ = read_onnx(path)
    del model.metadata_props[:]
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString(deterministic=True))
