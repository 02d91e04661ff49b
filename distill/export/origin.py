"""The origin and the scores of a network in ``config.json``.

The model card and the metadata of ONNX files repeat them, so that each file is self-describing.
"""

import re
from collections.abc import Mapping
from typing import Any

from distill.export.config import (
    Figures,
    Generation,
    Measured,
    Origin,
    SetScores,
    Terms,
    TrainedOn,
)

TEACHER = "teacher"
"""The teacher's name among the networks of an evaluation"""
_GENERATION = re.compile(r"generation \d+")


def origin_of(evaluation: Mapping[str, Any], lineage: Mapping[str, Any]) -> Origin:
    """The origin from an evaluation and a bundle's lineage; missing information is left out.

    ``evaluation`` is the result of ``distill.evaluation.evaluate``, with the scores of other
    networks under ``networks``.
    """
    provenance = lineage.get("provenance", {})
    return Origin(
        job=lineage.get("job"),
        spec=provenance.get("spec"),
        licences=tuple(Terms.model_validate(each) for each in lineage.get("licences", ())),
        data=tuple(TrainedOn.model_validate(each) for each in lineage.get("data", ())),
        teachers=provenance.get("teacher", {}),
        generations=_generations(lineage.get("steps", []), evaluation.get("networks", {})),
        scores=scores_of(evaluation),
    )


def scores_of(evaluation: Mapping[str, Any]) -> dict[str, SetScores]:
    """The scores of the student and of its teacher on each set that compares pairs.

    The others, which only search (TinyFace), have other figures; they are in ``evaluation``.
    """
    teacher = evaluation.get("networks", {}).get(TEACHER, {}).get("sets", {})
    return {
        name: SetScores(
            digest=report["digest"],
            genuine=report["genuine"],
            impostors=report["impostors"],
            student=_figures(report),
            teacher=_figures(teacher[name]) if _is_of_same_set(teacher.get(name), report) else None,
        )
        for name, report in evaluation["sets"].items()
        if "tar_at_far" in report
    }


def _is_of_same_set(other: Any, report: Mapping[str, Any]) -> bool:
    return isinstance(other, dict) and other.get("digest") == report["digest"]


def _figures(report: Mapping[str, Any]) -> Figures:
    accuracy = report.get("accuracy")
    return Figures(
        accuracy=None if accuracy is None else _measured(accuracy, report.get("accuracy_interval")),
        tar_at_far={
            rate: _measured(each["tar"], each.get("interval"))
            for rate, each in report["tar_at_far"].items()
            if each["tar"] is not None
        },
    )


def _measured(value: float, interval: Any) -> Measured:
    return Measured(value=value, interval=None if interval is None else tuple(interval))


def _generations(
    steps: list[dict[str, str]], networks: Mapping[str, Any]
) -> tuple[Generation, ...]:
    """The training steps of each generation; those of the teacher come first."""
    found: dict[str, list[str]] = {}
    for step in steps:
        generation = _GENERATION.match(step["name"])
        name = "teacher" if step["name"] == "teach" else generation and generation[0]
        if name:
            found.setdefault(name, []).append(f"{step['name']}: {step['id']}")
    return tuple(
        Generation(name=name, steps=tuple(each), accuracy=_accuracy(networks.get(name, {})))
        for name, each in found.items()
    )


def _accuracy(network: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: report["accuracy"]
        for name, report in network.get("sets", {}).items()
        if report.get("accuracy") is not None
    }
