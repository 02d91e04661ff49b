"""The table of a set: a row per measure, a cell per network. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.evaluation.figures import ReportFigure, figures
from distill.evaluation.paired import PairedDifference


@dataclass(frozen=True)
class Cell:
    """A figure with its interval and ``lines`` with details.

    ``verdict`` compares with the first network ("better", "worse", "level" or empty), or marks the
    worst group.
    """

    value: str
    interval: str = ""
    lines: tuple[str, ...] = ()
    verdict: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class FigureRow:
    """One measure for all networks, in order; None for a network without it."""

    measure: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class SliceTable:
    """The groups of an attribute: pairs ``within`` each group and ``across`` two groups."""

    within: list[FigureRow]
    across: list[FigureRow]


def figure_rows(
    reports: Sequence[Mapping[str, Any] | None],
    differences: Sequence[Sequence[PairedDifference]],
) -> list[FigureRow]:
    """The rows for the ``reports`` of one set, one per network; None for a missing report.

    ``differences`` holds the differences of each network from the first; empty if not compared.
    """
    columns = [
        {} if report is None else {each.measure: each for each in figures(report)}
        for report in reports
    ]
    measures = dict.fromkeys(measure for column in columns for measure in column)
    return [
        _row(measure, [column.get(measure) for column in columns], differences)
        for measure in measures
    ]


def slice_tables(reports: Sequence[Mapping[str, Any] | None]) -> dict[str, SliceTable]:
    """By attribute, the rates of each group at the threshold of the whole set.

    The group with the lowest TAR of each network is marked.
    """
    slices = [{} if report is None else report.get("slices", {}) for report in reports]
    tables = {}
    for attribute in dict.fromkeys(name for each in slices for name in each):
        found = [each.get(attribute, {}) for each in slices]
        table = SliceTable(_rows(map(_within, found)), _rows(map(_across, found)))
        if table.within or table.across:
            tables[attribute] = table
    return tables


def _rows(columns: Iterable[Mapping[str, Cell]]) -> list[FigureRow]:
    known = list(columns)
    groups = dict.fromkeys(group for column in known for group in column)
    return [FigureRow(group, tuple(each.get(group) for each in known)) for group in groups]


def _within(found: Mapping[str, Any]) -> dict[str, Cell]:
    worst = found.get("worst", {}).get("tar_at_threshold", {}).get("group")
    return {
        group: _group(each, "worst group" if group == worst else "")
        for group, each in found.get("within", {}).items()
        if "at_threshold" in each
    }


def _across(found: Mapping[str, Any]) -> dict[str, Cell]:
    return {
        " and ".join(each["groups"]): _group(each, "")
        for each in found.get("across", ())
        if "at_threshold" in each
    }


def _group(report: Mapping[str, Any], verdict: str) -> Cell:
    held, lines = report["at_threshold"], []
    if held["far"] is not None:
        around = _interval(held.get("far_interval"))
        lines.append(f"FAR {held['far']:.4f}" + (f" ({around})" if around else ""))
    if report.get("eer") is not None:
        lines.append(f"equal error rate {report['eer']:.4f}")
    lines.append(f"{report['genuine']:,} genuine, {report['impostors']:,} impostor pairs")
    value = "no genuine pair" if held["tar"] is None else f"TAR {held['tar']:.4f}"
    return Cell(value, _interval(held.get("tar_interval")), tuple(lines), verdict)


def _interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _row(
    measure: str,
    column: Sequence[ReportFigure | None],
    differences: Sequence[Sequence[PairedDifference]],
) -> FigureRow:
    known = [each for each in column if each is not None]
    lower = known[0].lower_is_better
    best = (min if lower else max)(each.value for each in known)
    are_level = len({f"{each.value:.4f}" for each in known}) == 1
    cells = []
    for place, each in enumerate(column):
        compared = differences[place] if place < len(differences) else ()
        verdict = next((_verdict(one, lower) for one in compared if one.measure == measure), "")
        is_best = each is not None and each.value == best and not are_level
        cells.append(None if each is None else _cell(each, verdict, is_best))
    return FigureRow(measure, tuple(cells))


def _cell(each: ReportFigure, verdict: str, is_best: bool) -> Cell:
    lines = []
    if each.deviation is not None:
        lines.append(f"\N{PLUS-MINUS SIGN} {each.deviation:.4f} over ten folds")
    if each.threshold is not None:
        around = _interval(each.threshold_interval)
        lines.append(f"threshold {each.threshold:.4f}" + (f" ({around})" if around else ""))
    value, interval = f"{each.value:.4f}", _interval(each.interval)
    return Cell(value, interval, tuple(lines), verdict, is_best)


def _verdict(difference: PairedDifference, lower_is_better: bool) -> str:
    if not difference.is_more_than_noise:
        return "level"
    return "worse" if (difference.interval[0] > 0) == lower_is_better else "better"
