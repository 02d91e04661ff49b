"""The figures of any evaluation report, in reading order. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ReportFigure:
    """A measured value, with its 95 % interval and the cosine threshold that it applies to.

    ``deviation`` is the standard deviation over ten folds.
    """

    measure: str
    value: float
    interval: Sequence[float] | None = None
    threshold: float | None = None
    threshold_interval: Sequence[float] | None = None
    deviation: float | None = None
    lower_is_better: bool = False


COUNTS = {
    "images": "images",
    "templates": "templates",
    "probes": "probes",
    "enrolled": "enrolled faces",
    "distractors": "distractors",
    "genuine": "genuine pairs",
    "impostors": "impostor pairs",
}
"""Words for the counts of a report, by key"""


def figures(report: Mapping[str, Any]) -> Iterator[ReportFigure]:
    """All figures of a report on one set, from `evaluate` or `identify`."""
    yield from _verification(report)
    yield from _identification(report)
    for name, each in report.get("galleries", {}).items():
        for one in _identification(each):
            yield ReportFigure(**{**vars(one), "measure": f"{name}: {one.measure}"})
    published = report.get("published", {})
    for rate, tar in published.get("tar", {}).items():
        yield ReportFigure(f"as in papers: TAR near FPR {rate}", tar)
    for rate, tpir in published.get("tpir", {}).items():
        yield ReportFigure(f"as in papers: TPIR at FPIR {rate}", tpir)


def counted_in(report: Mapping[str, Any]) -> list[str]:
    """The counts of a set, in words."""
    return [
        f"{report[key]:,} {words}"
        for key, words in COUNTS.items()
        if isinstance(report.get(key), int)
    ]


def unmeasured(report: Mapping[str, Any]) -> Iterator[str]:
    """The first FAR, and the first FPIR of each gallery, that is not measured, and the reason."""
    yield from _unmeasured("FAR", "tar", report.get("tar_at_far", {}))
    parts = {"": report} | {f"{name}: ": each for name, each in report.get("galleries", {}).items()}
    for name, each in parts.items():
        yield from _unmeasured(f"{name}FPIR", "fnir", _searched(each))


def _unmeasured(kind: str, key: str, rates: Mapping[str, Any]) -> Iterator[str]:
    first = next((rate for rate, each in rates.items() if each[key] is None), None)
    if first is not None:
        yield f"{kind} {first}: {rates[first]['reason']}"


def _searched(report: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = report.get("open_set", {}).get("fnir_at_fpir", {})
    return found


def _verification(report: Mapping[str, Any]) -> Iterator[ReportFigure]:
    if report.get("accuracy") is not None:
        yield ReportFigure(
            "accuracy",
            report["accuracy"],
            report.get("accuracy_interval"),
            report["cosine_threshold"],
            deviation=report["std"],
        )
    if report.get("auc") is not None:
        yield ReportFigure("area under the ROC", report["auc"], report.get("auc_interval"))
    if report.get("eer") is not None:
        around = report.get("eer_interval")
        yield ReportFigure("equal error rate", report["eer"], around, lower_is_better=True)
    for rate, each in report.get("tar_at_far", {}).items():
        if each["tar"] is not None:
            yield ReportFigure(
                f"TAR at FAR {rate}",
                each["tar"],
                each.get("interval"),
                each["cosine_threshold"],
                each.get("threshold_interval"),
            )


def _identification(report: Mapping[str, Any]) -> Iterator[ReportFigure]:
    for rank, each in report.get("closed_set", {}).get("ranks", {}).items():
        yield ReportFigure(f"rank {rank}", each["rate"], each["interval"])
    for size, ranks in report.get("among_distractors", {}).get("distractors", {}).items():
        title = f"rank 1 among {int(size):,} distractors"
        yield ReportFigure(title, ranks["1"]["rate"], ranks["1"]["interval"])
    for rate, each in _searched(report).items():
        if each["fnir"] is not None:
            yield ReportFigure(
                f"FNIR at FPIR {rate}",
                each["fnir"],
                each["interval"],
                each["threshold"],
                each["threshold_interval"],
                lower_is_better=True,
            )
    for rate, fnir in report.get("mean_fnir_at_fpir", {}).items():
        if fnir is not None:
            yield ReportFigure(f"mean FNIR at FPIR {rate}", fnir, lower_is_better=True)
