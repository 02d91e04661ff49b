"""The table of a set: a row a measure, a cell a network. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.evaluation.paired import PairedDifference

_CURVE = {"auc": "area under the ROC", "eer": "equal error rate"}


@dataclass(frozen=True)
class Cell:
    """A figure with its interval; ``lines`` say more of it. ``verdict`` compares with the first
    network: "better", "worse", "level", or nothing."""

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
