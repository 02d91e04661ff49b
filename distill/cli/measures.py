"""What was measured on one set, as rows for people: of any kind of set."""

from collections.abc import Iterator
from typing import Any

from distill.cli.reports import shown
from distill.cli.scored import shown_interval

Row = list[str]
"""Measure, value, interval, threshold"""


def measure_rows(report: dict[str, Any]) -> list[Row]:
    """All measures of a report that have a value."""
    return [
        *_verification(report),
        *_identification(report),
        *(
            [f"{name}: {row[0]}", *row[1:]]
            for name, each in report.get("galleries", {}).items()
            for row in _identification(each)
        ),
        *(
            [f"papers: TAR near FPR {rate}", f"{tar:.4f}", "", ""]
            for rate, tar in report.get("published", {}).get("tar", {}).items()
        ),
        *(
            [f"papers: TPIR at FPIR {rate}", f"{tpir:.4f}", "", ""]
            for rate, tpir in report.get("published", {}).get("tpir", {}).items()
        ),
    ]


def counted_in(report: dict[str, Any]) -> str:
    """How many of what a set has, with a comma at the end."""
    counts = [
        f"{shown(report[key])} {words}"
        for key, words in (
            ("templates", "templates"),
            ("probes", "probes"),
            ("enrolled", "enrolled faces"),
            ("distractors", "distractors"),
            ("genuine", "genuine pairs"),
            ("impostors", "impostor pairs"),
        )
        if isinstance(report.get(key), int)
    ]
    return "".join(f"{each}, " for each in counts)


def _verification(report: dict[str, Any]) -> Iterator[Row]:
    if report.get("accuracy") is not None:
        value = f"{report['accuracy']:.4f} ± {report['std']:.4f}"
        interval = shown_interval(report.get("accuracy_interval"))
        yield ["accuracy", value, interval, f"{report['cosine_threshold']:.4f}"]
    for key, measure in (("auc", "area under the ROC"), ("eer", "equal error rate")):
        if report.get(key) is not None:
            interval = shown_interval(report.get(f"{key}_interval"))
            yield [measure, f"{report[key]:.4f}", interval, ""]
    for rate, each in report.get("tar_at_far", {}).items():
        if each["tar"] is not None:
            value, interval = f"{each['tar']:.4f}", shown_interval(each.get("interval"))
            yield [f"TAR at FAR {rate}", value, interval, f"{each['cosine_threshold']:.4f}"]


def _identification(report: dict[str, Any]) -> Iterator[Row]:
    for rank, each in report.get("closed_set", {}).get("ranks", {}).items():
        yield [f"rank {rank}", f"{each['rate']:.4f}", shown_interval(each["interval"]), ""]
    for size, ranks in report.get("among_distractors", {}).get("distractors", {}).items():
        first = ranks["1"]
        title = f"rank 1 among {int(size):,} distractors"
        yield [title, f"{first['rate']:.4f}", shown_interval(first["interval"]), ""]
    for rate, each in report.get("open_set", {}).get("fnir_at_fpir", {}).items():
        if each["fnir"] is not None:
            value, interval = f"{each['fnir']:.4f}", shown_interval(each["interval"])
            yield [f"FNIR at FPIR {rate}", value, interval, f"{each['threshold']:.4f}"]
    for rate, fnir in report.get("mean_fnir_at_fpir", {}).items():
        if fnir is not None:
            yield [f"mean FNIR at FPIR {rate}", f"{fnir:.4f}", "", ""]
