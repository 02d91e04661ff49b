"""The table of a set: a row a measure, a cell a network. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.evaluation.paired import PairedDifference

_CURVE = {"auc": "area under the ROC", "eer": "equal error rate"}


@dataclass(frozen=True)
class Cell:
    """A figure with its interval; ``lines`` say more of it. ``verdict`` compares with the first
    network: "better", "worse", "level", or nothing; of groups it marks the worst."""

    value: str
    interval: str = ""
    lines: tuple[str, ...] = ()
    verdict: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class FigureRow:
    """One measure of all networks in their order; None where it is not measured."""

    measure: str
    cells: tuple[Cell | None, ...]


def figure_rows(
    reports: Sequence[Mapping[str, Any] | None],
    differences: Sequence[Sequence[PairedDifference]],
) -> list[FigureRow]:
    """The rows of the networks' ``reports`` of one set, None where there is none.

    ``differences`` of each network from the first; none where they are not compared.
    """
    known = [report for report in reports if report is not None]
    rows = []
    if any(report.get("accuracy") is not None for report in known):
        rows.append(("accuracy", [_accuracy(report) for report in reports], max))
    for key, measure in _CURVE.items():
        if any(report.get(key) is not None for report in known):
            best = max if key == "auc" else min
            rows.append((measure, [_plain(report, key) for report in reports], best))
    for rate in known[0]["tar_at_far"] if known else ():
        cells = [_rate(report, rate) for report in reports]
        if any(cells):
            rows.append((f"TAR at FAR {rate}", cells, max))
    return [_row(measure, cells, best, differences) for measure, cells, best in rows]


def slice_tables(reports: Sequence[Mapping[str, Any] | None]) -> dict[str, list[FigureRow]]:
    """By a title, a row for each group of an attribute: what the whole set's threshold does to it.

    The worst group of a network, by TAR there, is marked.
    """
    slices = [{} if report is None else report.get("slices", {}) for report in reports]
    tables = {}
    for attribute in dict.fromkeys(name for each in slices for name in each):
        columns = [_groups(each[attribute]) if attribute in each else {} for each in slices]
        groups = dict.fromkeys(group for column in columns for group in column)
        rows = [FigureRow(group, tuple(each.get(group) for each in columns)) for group in groups]
        if rows:
            tables[attribute] = rows
    return tables


def _groups(found: Mapping[str, Any]) -> dict[str, Cell]:
    if "reason" in found:
        return {}
    worst = found["worst"].get("tar_at_threshold", {}).get("group")
    groups = {**found["within"]}
    groups |= {" and ".join(each["groups"]): each for each in found["across"]}
    return {
        group: _group(each, "worst group" if group == worst else "")
        for group, each in groups.items()
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


Scored = tuple[float, Cell] | None


def _accuracy(report: Mapping[str, Any] | None) -> Scored:
    if report is None or report.get("accuracy") is None:
        return None
    lines = (
        f"\N{PLUS-MINUS SIGN} {report['std']:.4f} over ten folds",
        f"threshold {report['cosine_threshold']:.4f}",
    )
    value = report["accuracy"]
    return value, Cell(f"{value:.4f}", _interval(report.get("accuracy_interval")), lines)


def _plain(report: Mapping[str, Any] | None, key: str) -> Scored:
    if report is None or report.get(key) is None:
        return None
    return report[key], Cell(f"{report[key]:.4f}", _interval(report.get(f"{key}_interval")))


def _rate(report: Mapping[str, Any] | None, rate: str) -> Scored:
    found = None if report is None else report["tar_at_far"][rate]
    if found is None or found["tar"] is None:
        return None
    threshold = f"threshold {found['cosine_threshold']:.4f}"
    if interval := _interval(found.get("threshold_interval")):
        threshold += f" ({interval})"
    return found["tar"], Cell(f"{found['tar']:.4f}", _interval(found.get("interval")), (threshold,))


def _interval(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _row(
    measure: str,
    cells: Sequence[Scored],
    best: Any,
    differences: Sequence[Sequence[PairedDifference]],
) -> FigureRow:
    values = {cell[1].value for cell in cells if cell is not None}
    highest = best(cell[0] for cell in cells if cell is not None)
    shown: list[Cell | None] = []
    for place, cell in enumerate(cells):
        if cell is None:
            shown.append(None)
            continue
        compared = differences[place] if place < len(differences) else ()
        told = cell[1]
        shown.append(
            Cell(
                told.value,
                told.interval,
                told.lines,
                next((_verdict(each) for each in compared if each.measure == measure), ""),
                is_best=len(values) > 1 and cell[0] == highest,
            )
        )
    return FigureRow(measure, tuple(shown))


def _verdict(difference: PairedDifference) -> str:
    if not difference.is_more_than_noise:
        return "level"
    return "better" if difference.interval[0] > 0 else "worse"
