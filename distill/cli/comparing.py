"""`distill compare`: results of jobs and bundles side by side."""

import json as json_module
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.errors import UserError
from curation.workspace import Workspace
from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import RESULTS, JsonOption, WorkspaceOption, print_json
from distill.cli.model_options import ModelFileOptions
from distill.cli.option_groups import grouped
from distill.cli.reports import print_table
from distill.cli.scored import SetOptions, open_faces, open_model, short_names
from distill.cli.screen import note, say

if TYPE_CHECKING:
    import numpy as np

    from curation.progress import Progress
    from distill.comparison import Row
    from distill.daemon.comparing import Compared
    from distill.evaluation.paired import PairedDifference
    from distill.evaluation.set_features import EvaluationSet, SetFeatures

MOST_COMPARED = 100


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(rich_help_panel=RESULTS)(compare)


@grouped
def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="JOB|BUNDLE",
            help="Names of jobs, or folders of bundles.",
            autocompletion=completion.runs,
        ),
    ],
    on: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure two models on this set (as in `distill evaluate`; repeat for more) and "
            "report whether they differ by more than noise.",
            autocompletion=completion.image_sets,
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With --on, also draw the differences: an .svg or a .png."
        ),
    ] = None,
    *,
    of_sets: SetOptions,
    file: ModelFileOptions,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Compare results side by side, with the best marked, and the differences of the specs.

    Scores on different sets of the same name are not compared. The 95 % interval is in brackets;
    older results have the standard deviation over ten folds after ±. With --on, the models may also
    be files, and each difference has a 95 % interval, from a bootstrap that draws the same people
    for both models.

    Example: distill compare student-a student-b ./pulled-student

    Example: distill compare student-a r50.onnx --on ms1m/lfw --mean 127.5 --std 127.5 --colour RGB

    Example: distill compare student-a student-b --on ms1m/lfw --picture differences.svg
    """
    from distill.comparison import compare as compared
    from distill.daemon.comparing import look
    from distill.spec_difference import varying

    place, given = Workspace.locate(workspace), list(dict.fromkeys(names))
    if not 2 <= len(given) <= MOST_COMPARED:
        raise UserError(f"give 2 to {MOST_COMPARED} different jobs or bundles to compare")
    if picture is not None:
        _check_picture(picture, on)
    if on:
        if len(given) != 2:
            raise UserError(
                f"--on compares two models, and {len(given)} are given; `distill report` shows more"
            )
        answers = {name: open_model(name, file, place) for name in given}
        sets = [open_faces(name, place, of_sets) for name in on]
        _compare_on(sets, answers, picture, json)
        return
    found = [look(name, place) for name in given]
    rows = compared([each.subject for each in found])
    specs = varying([each.spec for each in found if each.spec is not None])
    specs.pop("name", None)
    if json:
        _print_json(found, rows, specs)
    else:
        _print(found, rows, specs)


def _check_picture(picture: Path, on: list[str] | None) -> None:
    from distill.charts.files import check_picture

    if not on:
        raise UserError("--picture draws the differences on a set; give the set with --on")
    check_picture(picture)


def _compare_on(
    sets: "Sequence[EvaluationSet]",
    answers: "dict[str, SetFeatures]",
    picture: Path | None,
    json: bool,
) -> None:
    """Compares two models on the same draws of the people of each set."""
    from distill.evaluation.evaluate_sets import check_names
    from distill.evaluation.paired import check_comparable, differences

    check_names(sets)
    for each in sets:
        check_comparable(each)
        for network in answers.values():
            network.check(each)
    models, found = list(answers), {}
    for each in sets:
        with watch(each.name, "images") as progress:
            first, second = (
                _features(name, network, each, progress) for name, network in answers.items()
            )
        found[each.name] = differences(first, second, each)
    names = short_names(models)
    if picture is not None:
        _draw(picture, names, found)
    if json:
        listed = {
            name: [{**asdict(one), "more_than_noise": one.is_more_than_noise} for one in measured]
            for name, measured in found.items()
        }
        embedders = {name: network.embedder for name, network in answers.items()}
        digests = {each.name: each.digest for each in sets}
        print_json({"models": models, "embedders": embedders, "digests": digests, "sets": listed})
        return
    rows = [
        [
            name,
            one.measure,
            f"{one.first:.4f}",
            f"{one.second:.4f}",
            f"{one.second - one.first:+.4f}",
            f"{one.interval[0]:+.4f} to {one.interval[1]:+.4f}",
            "more than noise" if one.is_more_than_noise else "noise",
        ]
        for name, measured in found.items()
        for one in measured
    ]
    columns = ["set", "measure", *names, "difference", "95 % interval", "verdict"]
    print_table(columns, rows, [*names, "difference"])
    for each in sets:
        note(f"{each.name}: set {each.digest[:12]}")
    for name, network in zip(names, answers.values(), strict=True):
        note(f"{name}: network {network.embedder[:12]}")


def _features(
    name: str, network: "SetFeatures", each: "EvaluationSet", progress: "Progress"
) -> "np.ndarray":
    try:
        return network.features(each, progress)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def _draw(picture: Path, names: list[str], found: "dict[str, list[PairedDifference]]") -> None:
    from distill.charts.files import write_drawing
    from distill.charts.intervals import DrawnDifference, draw_differences

    rows = [
        DrawnDifference(f"{name}: {one.measure}", one.second - one.first, *one.interval)
        for name, measured in found.items()
        for one in measured
    ]
    title = f"{names[1]} minus {names[0]}"
    hint = "95 % intervals, by a bootstrap over people; grey: no more than noise"
    write_drawing(picture, draw_differences(title, hint, rows))


def _print(found: "list[Compared]", rows: "list[Row]", specs: dict[str, list[Any]]) -> None:
    for each in found:
        if each.lacks:
            note(f"{each.subject.name}: {each.lacks}")
    names = [each.subject.name for each in found]
    if rows:
        print_table(["measure", *names], [_cells(row) for row in rows], names)
        say("")
        say("* the best")
    for row in rows:
        if not row.comparable:
            note(f"{row.measure}: not compared: the sets of this name differ")
    if specs:
        from distill.spec_difference import shown_value

        say("")
        named = [each.subject.name for each in found if each.spec is not None]
        lines = [[key, *map(shown_value, values)] for key, values in specs.items()]
        print_table(["key", *named], lines, title="differences of the specs")


def _cells(row: "Row") -> list[str]:
    cells = [row.measure]
    for place, (value, spread) in enumerate(zip(row.values, row.deviations, strict=True)):
        if value is None:
            cells.append("-")
            continue
        text = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        interval = row.intervals[place] if row.intervals else None
        if interval is not None:
            text += f" ({interval[0]:.4f} to {interval[1]:.4f})"
        elif spread is not None:
            text += f" ± {spread:.4f}"
        cells.append(f"{text} *" if place in row.best else text)
    return cells


def _print_json(found: "list[Compared]", rows: "list[Row]", specs: dict[str, list[Any]]) -> None:
    from distill.spec_difference import ABSENT

    names = [each.subject.name for each in found]
    named = [each.subject.name for each in found if each.spec is not None]
    differences = [
        {
            "key": key,
            "values": {
                name: value
                for name, value in zip(named, values, strict=True)
                if value is not ABSENT
            },
        }
        for key, values in specs.items()
    ]
    report = {
        "compared": [
            {"name": each.subject.name, "state": each.state, "results": each.lacks is None}
            for each in found
        ],
        "results": [
            {
                "measure": row.measure,
                "values": dict(zip(names, row.values, strict=True)),
                "deviations": dict(zip(names, row.deviations, strict=True)),
                "intervals": dict(zip(names, row.intervals or [None] * len(names), strict=True)),
                "best": [names[place] for place in row.best],
                "comparable": row.comparable,
            }
            for row in rows
        ],
        "differences": json_module.loads(json_module.dumps(differences, default=str)),
    }
    print_json(report)
