"""Writes bundles: everything needed to deploy a network, in one folder.

::

    model.safetensors   float32 weights, under the names of the backbone's state dict
    model.onnx          the same network with folded batch normalisation, checked for parity; or the
                        files of other formats: see `distill.export.exporter`
    config.json         backbone, preprocessing, alignment, mirror rule: see `BundleConfig`
    thresholds.json     recommended thresholds at named false-accept rates
    evaluation.json     every score with the digest of its set
    lineage.json        the origin: job, data, teacher, generations, versions
    golden/             synthetic images and their embeddings, for `distill verify`
    README.md           the model card
    SHA256SUMS          the checksums of all other files
"""

import copy
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.files import replace_folder, sync_folder
from distill.export.calibration import Calibration
from distill.export.checksums import write_sums
from distill.export.config import BundleConfig, Sizes, Thresholds, TimmConfig
from distill.export.exporter import DEFAULT_FORMATS, FormatRefusedError, write_format
from distill.export.format_scores import Score, format_scores, left_out
from distill.export.golden import write_golden
from distill.export.metadata import stamp
from distill.export.model_card import model_card
from distill.export.origin import origin_of
from distill.export.safe_tensors import write_weights
from distill.export.source import ExportSource

if TYPE_CHECKING:
    import torch


def export_bundle(
    destination: Path,
    module: "torch.nn.Module",
    config: BundleConfig,
    evaluation: dict,
    lineage: dict,
    name: str | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    score: Score | None = None,
    calibration: Calibration | None = None,
) -> Path:
    """Write the bundle of a trained ``module`` atomically to ``destination``.

    ``config`` describes ``module``; the files of the ``formats`` are added to it. ``evaluation`` is
    the result of ``distill.evaluation.evaluate``. ``score`` evaluates each format. int8 formats
    need a ``calibration``. A format that loses too much is left out, with a note in the evaluation.
    ``lineage`` is any JSON. Replaces an existing bundle. Raises `UserError` if ``model.onnx``
    gives other embeddings than the network, or no format is left.
    """
    destination = Path(destination)
    network = copy.deepcopy(module).cpu().float().eval()
    face, thresholds = config.face, Thresholds.model_validate(evaluation["thresholds"])
    source = ExportSource(network, face.preprocessing, calibration, face.mirror, thresholds)
    partial = destination.with_name(f".{destination.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write_json(partial / "thresholds.json", thresholds.model_dump(mode="json"))
        write_json(partial / "lineage.json", lineage)
        sizes = _write_network(partial, source, config)
        files, scores = _write_formats(partial, source, formats, score)
        if scores:
            evaluation = {**evaluation, "formats": scores}
        write_json(partial / "evaluation.json", evaluation)
        described = {
            "formats": files,
            "pretrained_cfg": TimmConfig.of(face.preprocessing),
            "sizes": sizes,
            "thresholds": thresholds,
            "origin": origin_of(evaluation, lineage),
        }
        config = config.model_copy(update=described)
        describe(partial, name or destination.name, config, evaluation, lineage)
        sync_tree(partial)
        replace_folder(partial, destination)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return destination


def _write_network(folder: Path, source: ExportSource, config: BundleConfig) -> Sizes:
    """Write the weights and the golden images; returns the sizes of the network."""
    from distill.counting import count
    from teachers.embedder import TorchEmbedder, module_digest

    network, face = source.network, config.face
    embedder = TorchEmbedder(network, face.preprocessing, module_digest(network), device="cpu")
    counts = count(network, face.preprocessing.size)
    assert embedder.embedding == config.num_features, "the config is of another network"
    write_golden(folder, embedder, face.image_size, face.mirror)
    write_weights(folder / "model.safetensors", network)
    return Sizes(parameters=counts.params, multiply_adds=counts.madds, lfr_flops=counts.lfr_flops)


def _write_formats(
    folder: Path, source: ExportSource, formats: Sequence[str], score: Score | None
) -> tuple[dict[str, tuple[str, ...]], dict[str, Any]]:
    """Write the formats; returns their files and their evaluation, by format.

    Raises ``FormatRefusedError`` if the default format or every format loses too much.
    """
    files = {}
    for each in formats:
        try:
            files[each] = write_format(each, folder, source)
        except FormatRefusedError as error:
            if each in DEFAULT_FORMATS:
                raise
            source.details[each] = {**source.details.get(each, {}), "not run": str(error)}
    scores = source.details
    if score is not None:
        scores = format_scores(folder, files, source.preprocessing, score, source.details)
    refused = left_out(scores, files)
    if not files or any(each in refused for each in DEFAULT_FORMATS):
        raise FormatRefusedError("; ".join(refused.values()))
    return files, scores


def describe(
    folder: Path,
    name: str,
    config: BundleConfig,
    evaluation: dict[str, Any],
    lineage: dict[str, Any],
) -> None:
    """Write the metadata of ONNX files, ``config.json``, the model card and the checksums."""
    stamp(folder, config)
    # timm would read a null as a table.
    left_out = {"pretrained_cfg"} if config.pretrained_cfg is None else None
    write_json(folder / "config.json", config.model_dump(mode="json", exclude=left_out))
    card = model_card(name, config, evaluation, lineage.get("spec"))
    (folder / "README.md").write_text(card, encoding="utf-8")
    write_sums(folder)


def write_json(path: Path, value: dict) -> None:
    """Write a JSON file of a bundle."""
    # JSON has no NaN, but Python would write it.
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def sync_tree(folder: Path) -> None:
    """Sync every file and folder to the disk."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(folder)
