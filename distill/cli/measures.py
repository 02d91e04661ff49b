"""The measures of one set, of any kind, as table rows."""

from typing import Any

from distill.cli.reports import print_table, shown
from distill.cli.scored import shown_interval
from distill.cli.screen import note, say, screen_width

INTERVALS_FROM = 120
"""Minimum screen width for intervals in a table of groups"""
Row = list[str]
"""Measure, value, interval, threshold"""


def measure_rows(report: dict[str, Any]) -> list[Row]:
    """All measures of a report that have a value."""
    from distill.evaluation.figures import figures

    return [
        [
            each.measure,
            f"{each.value:.4f}" + ("" if each.deviation is None else f" ± {each.deviation:.4f}"),
            shown_interval(each.interval),
            "" if each.threshold is None else f"{each.threshold:.4f}",
        ]
        for each in figures(report)
    ]


def print_slices(name: str, attribute: str, found: dict[str, Any]) -> None:
    """Print a table of one attribute and the worst group per measure, or why it is missing."""
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
            interval = f" ({around})" if around else ""
            say(
                f"worst {measure.replace('_', ' ')}: {each['group']}, {each['value']:.4g}{interval}"
            )


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
