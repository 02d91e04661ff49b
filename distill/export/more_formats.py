"""Adds formats to an existing bundle."""

from collections.abc import Sequence
from pathlib import Path

from distill.export.bundle import sync_tree
from distill.export.calibration import Calibration
from distill.export.embedder import open_bundle_network
from distill.export.exporter import (
    FormatRefusedError,
    check_installed,
    exporters,
    write_format,
)
from distill.export.format_scores import Score, format_scores, left_out
from distill.export.golden import add_golden_features
from distill.export.remeasured import describe_again, read_object
from distill.export.source import ExportSource
from teachers.embedder import TorchEmbedder


def add_formats(
    folder: Path,
    names: Sequence[str],
    score: Score | None = None,
    calibration: Calibration | None = None,
) -> None:
    """Export the network of the bundle in ``folder`` in those of the named formats that it lacks.

    ``score`` evaluates each new format; int8 formats need a ``calibration``. ``folder`` must be a
    copy that is not in use yet: see ``distill.daemon.delivery.deliver``. Raises ``UserError`` like
    ``write_format``.
    """
    config, network = open_bundle_network(folder)
    face = config.face
    source = ExportSource(
        network.eval(), face.preprocessing, calibration, face.mirror, config.thresholds
    )
    new = [name for name in names if name not in config.formats]
    check_installed(new)
    if any(exporters()[name].gives_features for name in new):
        add_golden_features(
            folder, TorchEmbedder(network, face.preprocessing, "", "cpu"), face.mirror
        )
    files = {name: write_format(name, folder, source) for name in new}
    evaluation = read_object(folder / "evaluation.json")
    if score is not None:
        known = evaluation.get("formats")
        found = format_scores(folder, files, source.preprocessing, score, source.details)
        if refused := left_out(found, files):
            raise FormatRefusedError("; ".join(refused.values()))
        evaluation["formats"] = {**(known if isinstance(known, dict) else {}), **found}
    config = config.model_copy(update={"formats": {**config.formats, **files}})
    describe_again(folder, config, evaluation)
    sync_tree(folder)
