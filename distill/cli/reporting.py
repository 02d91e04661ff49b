"""`distill report`: one page about networks on sets, with curves and faces."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.errors import UserError
from distill.cli import completion
from distill.cli.bars import watch_phases
from distill.cli.common import RESULTS, JsonOption, WorkspaceOption, print_json
from distill.cli.model_options import ModelFileOptions
from distill.cli.option_groups import grouped
from distill.cli.scored import (
    SetOptions,
    SlicesOption,
    TemplateWeightsOption,
    open_model,
    open_set,
    short_names,
    slices_of,
    template_weights_of,
)
from distill.cli.screen import note, say

if TYPE_CHECKING:
    from curation.progress import Progress
    from distill.evaluation.report.page import ReportedNetwork, SetResults
    from distill.evaluation.set_features import EvaluationSet, SetFeatures
    from distill.evaluation.slice_tables import Attribute

MOST_MODELS = 20


def register(app: typer.Typer) -> None:
    """Add the command to ``distill``."""
    app.command(rich_help_panel=RESULTS)(report)


@grouped
def report(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Networks, as in `distill evaluate`; all are compared with the first.",
            show_default=False,
            autocompletion=completion.teachers,
        ),
    ],
    on: Annotated[
        list[str],
        typer.Option(
            metavar="SET",
            help="A set or a protocol, as in `distill evaluate`; repeat for more.",
            autocompletion=completion.image_sets,
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(help="The page to write.", show_default="MODEL.report.html")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Also write each chart to this folder, as a PNG.")
    ] = None,
    faces: Annotated[
        int,
        typer.Option(min=0, max=200, help="How many of the worst pairs of each kind to show."),
    ] = 24,
    slices: SlicesOption = None,
    template_weights: TemplateWeightsOption = "norm+detector",
    *,
    of_sets: SetOptions,
    file: ModelFileOptions,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write one HTML page about networks: figures, ROC, DET, histograms and the worst pairs.

    The page is self-contained, including the faces that it shows. Embeddings are shared with
    `distill evaluate`, so nothing is embedded twice.

    Example: distill report student --on ms1m/lfw --on ms1m/test

    Example: distill report student teacher --on tinyface:/data/tinyface/Testing_Set

    Example: distill report r50.onnx student --on lfw.bin --mean 127.5 --std 127.5 --colour RGB
    """
    from curation.wording import counted
    from curation.workspace import Workspace
    from distill.evaluation.report.page import ReportedNetwork, page, write_page

    place, given = Workspace.locate(workspace), list(dict.fromkeys(models))
    if len(given) > MOST_MODELS:
        raise UserError(f"{len(given)} models: at most {MOST_MODELS} fit on a page")
    names = short_names(given)
    target = to or Path(f"{Path(names[0]).name}.report.html")
    _check_targets(target, pictures)
    weights = template_weights_of(template_weights)
    answers = dict(zip(names, (open_model(each, file, place) for each in given), strict=True))
    sets = [open_set(name, place, of_sets, weights) for name in dict.fromkeys(on)]
    _check_sets(sets, answers)
    subjects = [
        ReportedNetwork(name, each.embedder, each.preprocessing) for name, each in answers.items()
    ]
    groups = None if slices is None else slices_of(slices, [*sets])
    with watch_phases(("report", "compare"), "images") as (progress, scanned):
        results = _measure(answers, sets, faces, groups, progress, scanned)
    content = page(subjects, results)
    write_page(target, content)
    written = _write_pictures(pictures, subjects, results) if pictures is not None else []
    for each in results:
        for name, reason in each.missing.items():
            note(f"{name} is not measured on {each.set.name}: {reason}")
    if json:
        print_json(_summary(target, len(content), written, subjects, results))
        return
    what = f"{counted(len(subjects), 'network')} on {counted(len(sets), 'set')}"
    say(f"{target}: {what}, {max(len(content) / 1e6, 0.1):.1f} MB")
    if pictures is not None:
        note(f"{counted(len(written), 'chart')} in {pictures}")


def _check_targets(target: Path, pictures: Path | None) -> None:
    """Raise `UserError` if the outputs cannot be written, before embedding anything."""
    from curation.files import check_writable

    check_writable(target)
    if pictures is not None:
        try:
            pictures.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write to {pictures}: {error.strerror}") from None
        check_writable(pictures / "chart.png")


def _check_sets(sets: "list[EvaluationSet]", answers: "dict[str, SetFeatures]") -> None:
    """Raise `UserError` if two sets have the same name, one is too large, or no network can be
    scored on it."""
    from distill.evaluation.evaluate_sets import check_names
    from distill.evaluation.report.measured import check_reportable

    check_names(sets)
    for each in sets:
        check_reportable(each)
        reasons = []
        for network in answers.values():
            try:
                network.check(each)
            except UserError as error:
                reasons.append(error)
        if len(reasons) == len(answers):
            raise reasons[0]


def _measure(
    answers: "dict[str, SetFeatures]",
    sets: "list[EvaluationSet]",
    faces: int,
    groups: "dict[str, list[Attribute]] | None",
    progress: "Progress",
    scanned: "Progress",
) -> "list[SetResults]":
    """Score the networks; holds one network's features of one set in memory at a time."""
    from curation.progress import shifted
    from distill.evaluation.evaluate_sets import sliced
    from distill.evaluation.paired import compared
    from distill.evaluation.protocols.protocol import ProtocolSet
    from distill.evaluation.report.measured import measure
    from distill.evaluation.report.page import SetResults
    from distill.evaluation.set_features import distinct_images

    done, total = 0, len(answers) * sum(map(distinct_images, sets))
    results = []
    for each in sets:
        measured, missing = {}, {}
        for name, network in answers.items():
            try:
                embedded = network.embedded(each, shifted(progress, done, total))
            except UserError as error:
                missing[name] = str(error)
            else:
                found = measured[name] = measure(embedded, each, faces, scanned)
                if groups is not None and found.curve is not None:
                    assert not isinstance(each, ProtocolSet), "`slices_of` refuses them"
                    attributes = groups.get(each.name, ())
                    found.report["slices"] = sliced(
                        embedded, each, attributes, found.report, progress=scanned
                    )
            done += distinct_images(each)
        if not measured:
            raise UserError(next(iter(missing.values())))
        first = measured.get(next(iter(answers)))
        differences = {}
        if first is not None and first.measures is not None:
            differences = {
                name: compared(first.measures, other.measures)
                for name, other in measured.items()
                if other is not first and other.measures is not None
            }
        results.append(SetResults(each, measured, missing, differences))
    return results


def _write_pictures(
    folder: Path, subjects: "list[ReportedNetwork]", results: "list[SetResults]"
) -> list[str]:
    """Write every chart as a PNG; returns the paths."""
    from distill.charts.chart import draw
    from distill.charts.files import write_drawing
    from distill.evaluation.report.page import charts

    written = []
    for name, chart in charts(subjects, results).items():
        path = folder / f"{_file_name(name)}.png"
        write_drawing(path, draw(chart))
        written.append(str(path))
    return written


def _file_name(title: str) -> str:
    return "".join(each if each.isalnum() or each in "-._" else "-" for each in title)[:200]


def _summary(
    path: Path,
    size: int,
    pictures: list[str],
    subjects: "list[ReportedNetwork]",
    results: "list[SetResults]",
) -> dict[str, Any]:
    return {
        "path": str(path),
        "bytes": size,
        "pictures": pictures,
        "models": [asdict(subject) for subject in subjects],
        "sets": {
            each.set.name: {
                "digest": each.set.digest,
                "models": {
                    name: {**one.report, "curve": _points(one.curve)}
                    for name, one in each.measured.items()
                },
                "missing": dict(each.missing),
                "differences": {
                    name: [
                        {**asdict(one), "more_than_noise": one.is_more_than_noise}
                        for one in measures
                    ]
                    for name, measures in each.differences.items()
                },
            }
            for each in results
        },
    }


def _points(curve: Any) -> list[dict[str, float]]:
    if curve is None:
        return []
    columns = zip(curve.thresholds.tolist(), curve.far.tolist(), curve.tar.tolist(), strict=True)
    return [{"threshold": t, "far": far, "tar": tar} for t, far, tar in columns]
