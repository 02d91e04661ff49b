"""The scores of each format of a bundle, for comparison with the network itself."""

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

from distill.export.exporter import exporters, remove_format
from teachers.embedder import Embedder
from teachers.preprocessing import Preprocessing
from teachers.usable import UnusableEmbeddingsError

Score = Callable[[Embedder], Mapping[str, Any]]
"""Returns reports by set, like ``sets`` in the result of ``distill.evaluation.evaluate``"""

RATE = "1e-3"
KEPT = ("digest", "genuine", "impostors", "accuracy", "accuracy_interval", "closed_set")


def format_scores(
    folder: Path,
    files: dict[str, tuple[str, ...]],
    preprocessing: Preprocessing,
    score: Score,
    details: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """By format: the scores by set, or why there are none.

    Includes the ``details`` that its exporter recorded. ``files`` are those of each format; one
    whose embeddings are unusable is removed from them and from ``folder``.
    """
    found: dict[str, Any] = {name: dict(detail) for name, detail in details.items()}
    for name in list(files):
        exporter = exporters()[name]
        if reason := exporter.why_not_run():
            found.setdefault(name, {})["not run"] = reason
            continue
        try:
            scores = score(exporter.embedder(folder, preprocessing))
        except UnusableEmbeddingsError as error:
            found.setdefault(name, {})["not run"] = str(error)
            remove_format(folder, files.pop(name))
        else:
            shortened = {each: _shortened(report) for each, report in scores.items()}
            found.setdefault(name, {})["sets"] = shortened
    return found


def _shortened(report: Mapping[str, Any]) -> dict[str, Any]:
    """The digest of the set, its accuracy, TAR at a FAR of 1e-3 and ranks, with intervals."""
    kept = {key: report[key] for key in KEPT if key in report}
    if "tar_at_far" in report:
        kept["tar_at_far"] = {RATE: report["tar_at_far"].get(RATE)}
    return kept


def left_out(scores: Mapping[str, Any], written: Container[str]) -> dict[str, str]:
    """The reasons, by name, why formats were not ``written``: they lose too much."""
    return {
        name: str(found["not run"])
        for name, found in scores.items()
        if "not run" in found and name not in written
    }


def format_rows(scores: Mapping[str, Any]) -> list[list[str]]:
    """Rows of format, set, accuracy and TAR at a FAR of 1e-3; "-" if not measured.

    Sets that compare no pairs have no row.
    """
    return [
        [name, each, _shown(report.get("accuracy")), _shown(_tar(report))]
        for name, found in scores.items()
        for each, report in found.get("sets", {}).items()
        if "tar_at_far" in report
    ]


def _tar(report: Mapping[str, Any]) -> float | None:
    rate = report["tar_at_far"].get(RATE)
    return None if rate is None else rate["tar"]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
