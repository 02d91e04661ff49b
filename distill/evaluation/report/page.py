"""Renders the results as one self-contained HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.files import atomic_file
from curation.pages.rendering import digest_for_policy, environment, style, trusted
from curation.pairs import VerificationPairs
from curation.report.gallery import SMALL, Picture, thumbnail
from curation.wording import counted
from distill.charts.chart import Chart, draw
from distill.charts.svg import STYLE, svg
from distill.evaluation.figures import counted_in, unmeasured
from distill.evaluation.paired import PairedDifference
from distill.evaluation.protocols.protocol import ProtocolSet
from distill.evaluation.report import pictures
from distill.evaluation.report.measured import NetworkOnSet, WorstPair
from distill.evaluation.report.rows import figure_rows, slice_tables
from distill.evaluation.set_features import EvaluationSet

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class ReportedNetwork:
    """A network: its name on the page, and the digests of its weights and preprocessing."""

    name: str
    embedder: str
    preprocessing: str


@dataclass(frozen=True)
class SetResults:
    """The results of one set by network, and why the other networks have none."""

    set: EvaluationSet
    measured: Mapping[str, NetworkOnSet]
    missing: Mapping[str, str] = field(default_factory=dict)
    differences: Mapping[str, Sequence[PairedDifference]] = field(default_factory=dict)
    """Differences of each network from the first"""


@dataclass(frozen=True)
class _ShownPair:
    score: float
    left: Picture
    right: Picture
    title: str


def page(subjects: Sequence[ReportedNetwork], results: Sequence[SetResults]) -> bytes:
    """Render the HTML; the same input gives the same bytes."""
    templates = environment(TEMPLATES)
    sheet = style(TEMPLATES / "report.css") + trusted("\n" + STYLE)
    text = templates.get_template("page.html").render(
        subjects=[(subject, number) for number, subject in enumerate(subjects)],
        sections=[_section(n, subjects, each) for n, each in enumerate(results, 1)],
        title=_title(subjects, results),
        is_compared=any(each.differences for each in results),
        is_searched=any(_is_searched(each) for each in results),
        style=sheet,
        policy=digest_for_policy(sheet),
        chart=lambda chart: trusted(svg(draw(chart, legend=False))),
    )
    return text.encode()


def charts(subjects: Sequence[ReportedNetwork], results: Sequence[SetResults]) -> dict[str, Chart]:
    """All charts of the page, by file name."""
    colours = _colours(subjects)
    found = {}
    for each in results:
        for chart in _curves(each, colours).values():
            found[chart.title.replace(": ", "-")] = chart
        for chart in _histograms(each).values():
            found[chart.title.replace(": ", "-")] = chart
    return found


def write_page(path: Path, content: bytes) -> None:
    """Write the page atomically. Raises ``UserError`` if it cannot be written."""
    try:
        with atomic_file(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _title(subjects: Sequence[ReportedNetwork], results: Sequence[SetResults]) -> str:
    first, others = subjects[0].name, len(subjects) - 1
    networks = f"{first} and {counted(others, 'other network')}" if others else first
    sets = results[0].set.name if len(results) == 1 else counted(len(results), "set")
    return f"{networks} on {sets}"


def _is_searched(results: SetResults) -> bool:
    searches = {"closed_set", "galleries", "among_distractors"}
    return any(searches & set(each.report) for each in results.measured.values())


def _section(
    number: int, subjects: Sequence[ReportedNetwork], results: SetResults
) -> dict[str, Any]:
    names = [subject.name for subject in subjects]
    reports = [
        results.measured[name].report if name in results.measured else None for name in names
    ]
    known = next(report for report in reports if report is not None)
    return {
        "number": number,
        "name": results.set.name,
        "digest": results.set.digest,
        "report": known,
        "rows": figure_rows(reports, [results.differences.get(name, ()) for name in names]),
        "slices": slice_tables(reports),
        "missing": results.missing,
        "reasons": {
            name: each.report["reason"]
            for name, each in results.measured.items()
            if each.report.get("reason")
        },
        "counts": ", ".join(counted_in(known)),
        "is_protocol": isinstance(results.set, ProtocolSet),
        "unmeasured": "; ".join(unmeasured(known)),
        "curves": _curves(results, _colours(subjects)),
        "histograms": _histograms(results),
        "worst": _worst(results),
    }


def _curves(results: SetResults, colours: Mapping[str, int]) -> dict[str, Chart]:
    if not any(
        each.curve is not None and len(each.curve.far) for each in results.measured.values()
    ):
        return {}
    name = results.set.name
    return {
        "roc": pictures.roc(name, results.measured, colours),
        "det": pictures.det(name, results.measured, colours),
    }


def _histograms(results: SetResults) -> dict[str, Chart]:
    return {
        model: pictures.histogram(results.set.name, model, each)
        for model, each in results.measured.items()
        if each.genuine is not None
    }


def _worst(results: SetResults) -> dict[str, list[tuple[str, str, list[_ShownPair]]]]:
    """By network: title, hint and pairs of the likeliest false accepts and false rejects."""
    read: dict[int, Picture] = {}
    shown = partial(_shown, results.set, read)
    return {
        model: [
            (
                "Likeliest false accepts",
                "different people with the highest scores",
                [shown(pair) for pair in each.accepts],
            ),
            (
                "Likeliest false rejects",
                "one person with the lowest scores",
                [shown(pair) for pair in each.rejects],
            ),
        ]
        for model, each in results.measured.items()
        if each.accepts or each.rejects
    }


def _shown(each: EvaluationSet, read: dict[int, Picture], pair: WorstPair) -> _ShownPair:
    assert not isinstance(each, ProtocolSet), "protocols have no pairs to show"
    for image in (pair.left, pair.right):
        if image not in read:
            if isinstance(each, VerificationPairs):
                read[image] = thumbnail(each.images[image], SMALL)
            else:
                read[image] = thumbnail(each.read(image), SMALL)
    if isinstance(each, VerificationPairs):
        title = f"pair {each.numbers[pair.left] // 2}"
    else:
        people = sorted({int(each.labels[pair.left]), int(each.labels[pair.right])})
        title = f"{_people(people)}, images {pair.left} and {pair.right}"
    return _ShownPair(pair.score, read[pair.left], read[pair.right], title)


def _people(labels: list[int]) -> str:
    return f"person {labels[0]}" if len(labels) == 1 else f"people {labels[0]} and {labels[1]}"


def _colours(subjects: Sequence[ReportedNetwork]) -> dict[str, int]:
    return {subject.name: number for number, subject in enumerate(subjects)}
