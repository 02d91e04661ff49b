"""Notices about networks that perform at chance level; pure functions of a report."""

from collections.abc import Iterator, Mapping
from typing import Any

from distill.notices import Notice


def doubts(network: str, evaluation: Mapping[str, Any]) -> Iterator[Notice]:
    """Notices for sets with scores at chance level, from the result of `evaluate`."""
    for name, report in evaluation["sets"].items():
        found = _no_better_than_chance(report)
        if found is not None:
            yield Notice(
                f"chance: {network} on {name}",
                f"{network} does not tell people apart on {name}: {found}",
            )


def _no_better_than_chance(report: Mapping[str, Any]) -> str | None:
    accuracy = report.get("accuracy")
    if accuracy is not None:
        blind = max(report["genuine"], report["impostors"]) / report["pairs"]
        if accuracy > blind:
            return None
        return f"accuracy {accuracy:.4f}, and the same answer for every pair gives {blind:.4f}"
    for rate, measured in report.get("tar_at_far", {}).items():
        if measured["tar"] is not None and measured["tar"] <= float(rate):
            return f"TAR {measured['tar']:.4g} at FAR {rate}, no better than chance"
    return None
