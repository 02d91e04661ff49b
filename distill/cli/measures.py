"""What was measured on one set, as rows for people: of any kind of set."""

from collections.abc import Iterator
from typing import Any

from distill.cli.reports import print_table, shown
from distill.cli.scored import shown_interval
from distill.cli.screen import note, say, screen_width

INTERVALS_FROM = 120
"""Columns of the screen from which a table of groups has its intervals"""
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


def print_slices(name: str, attribute: str, found: dict[str, Any]) -> None:
    """A table of one attribute, and the worst group of each measure; or why there is none."""
    if "reason" in found:
        say(f"{name} by {attribute}: {found['reason']}")
        return
    groups = [(group, each) for group, each in found["within"].items()]
    groups += [(" x ".join(each["groups"]), each) for each in found["across"]]
    held = next((each["at_threshold"] for _, each in groups if "at_threshold" in each), None)
    if held is None:
        return
    rows, wide = [], screen_width() >= INTERVALS_FROM
    for group, each in groups:
        at = each["at_threshold"]
        cells = [_with_interval(at, key, wide) for key in ("tar", "far")]
        curve = "-" if each.get("eer") is None else f"{each['eer']:.4f}"
        rows.append([group, shown(each["genuine"]), shown(each["impostors"]), *cells, curve])
    say("")
    print_table(
        [attribute, "genuine", "impostors", *_RATES[wide], "EER"],
        rows,
        ["genuine", "impostors", *_RATES[False], "EER"],
        title=f"{name} by {attribute}, at the threshold {held['threshold']:.4f} of {held['of']}",
    )
    if not wide:
        note(f"95 % intervals: on a screen of {INTERVALS_FROM} columns, or with --json")
    for measure, each in found["worst"].items():
        if measure in ("tar_at_threshold", "far_at_threshold", "accuracy", "eer"):
            around = shown_interval(each["interval"])
            told = f" ({around})" if around else ""
            say(f"worst {measure.replace('_', ' ')}: {each['group']}, {each['value']:.4g}{told}")


_RATES = {True: ("TAR (95 %)", "FAR (95 %)"), False: ("TAR", "FAR")}


def _with_interval(report: dict[str, Any], key: str, wide: bool) -> str:
    if report[key] is None:
        return "-"
    value = f"{report[key]:.4f}" if key == "tar" else f"{report[key]:.2e}"
    around = report.get(f"{key}_interval")
    if around is None or not wide:
        return value
    low, high = (f"{each:.4f}" if key == "tar" else f"{each:.1e}" for each in around)
    return f"{value} ({low} to {high})"


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
