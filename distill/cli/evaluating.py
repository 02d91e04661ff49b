"""The commands `evaluate` (1:1) and `identify` (1:N), for any network and set."""

from typing import Annotated

import typer

from distill.cli import completion
from distill.cli.bars import watch, watch_phases
from distill.cli.common import RESULTS, JsonOption, WorkspaceOption, print_json
from distill.cli.measures import measure_rows, print_slices
from distill.cli.model_options import ModelFileOptions
from distill.cli.option_groups import grouped
from distill.cli.reports import print_table, shown
from distill.cli.scored import (
    ModelArgument,
    SetOptions,
    SetsArgument,
    SlicesOption,
    TemplateWeightsOption,
    open_model,
    open_set,
    slices_of,
    template_weights_of,
)
from distill.cli.screen import note, say


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (evaluate, identify):
        app.command(rich_help_panel=RESULTS)(command)


@grouped
def evaluate(
    model: ModelArgument,
    sets: SetsArgument,
    slices: SlicesOption = None,
    template_weights: TemplateWeightsOption = "norm+detector",
    *,
    of_sets: SetOptions,
    file: ModelFileOptions,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Verify pairs of faces (1:1) with any network; every figure has a 95 % interval.

    Embeddings are cached in the workspace: a run with another set embeds only that set.

    Example: distill evaluate student ms1m/lfw ms1m/test

    Example: distill evaluate r50.onnx lfw.bin --mean 127.5 --std 127.5 --colour RGB --json

    Example: distill evaluate student ijbc:/data/IJB_release/IJBC

    Example: distill evaluate student office/all --slices groups.csv

    Example: distill evaluate student photographs/ --detector yunet.onnx
    """
    from curation.workspace import Workspace
    from distill.evaluation.evaluate_sets import evaluate as score
    from distill.evaluation.figures import counted_in

    place, weights = Workspace.locate(workspace), template_weights_of(template_weights)
    answers = open_model(model, file, place)
    opened = [open_set(name, place, of_sets, weights) for name in sets]
    groups = None if slices is None else slices_of(slices, opened)
    with watch_phases(("evaluate", "compare"), "images") as (progress, scanned):
        report = score(answers, opened, progress, slices=groups, scanned=scanned)
    if json:
        print_json({"model": model, **report})
        return
    rows = [[name, *row] for name, each in report["sets"].items() for row in measure_rows(each)]
    print_table(["set", "measure", "value", "95 % interval", "threshold"], rows, ["value"])
    for name, each in report["sets"].items():
        note(f"{name}: {', '.join([*counted_in(each), 'set ' + each['digest'][:12]])}")
        for attribute, found in each.get("slices", {}).items():
            print_slices(name, attribute, found)
        if reason := each.get("reason"):
            note(f"{name} has no accuracy: {reason}")
    note(f"network {report['embedder'][:12]}, preprocessing {report['preprocessing'][:12]}")


@grouped
def identify(
    model: ModelArgument,
    probes: Annotated[
        str,
        typer.Argument(
            help="A store or view of labelled images.", autocompletion=completion.image_sets
        ),
    ],
    gallery: Annotated[
        str | None,
        typer.Option(
            help="The enrolled images: another view of the same store.",
            show_default="the first image of each identity of PROBES that has several",
            autocompletion=completion.image_sets,
        ),
    ] = None,
    distractors: Annotated[
        str | None,
        typer.Option(
            help="A store or view of other people, added to the gallery.",
            autocompletion=completion.image_sets,
        ),
    ] = None,
    *,
    file: ModelFileOptions,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Search faces in a gallery (1:N) with any network; every figure has a 95 % interval.

    Closed set: how often the mate is among the first R. Open set: FNIR (the share of probes of
    enrolled people that are not found) at given FPIR (the share of probes of strangers that match
    somebody). With --distractors: identification as in MegaFace.

    Example: distill identify student ms1m/test

    Example: distill identify student office/today --gallery office/known --distractors street/all
    """
    from curation.views import open_images
    from curation.workspace import Workspace
    from distill.cli.curate.places import locate
    from distill.evaluation.identify_sets import check_sets
    from distill.evaluation.identify_sets import identify as search

    place = Workspace.locate(workspace)
    probe_set, enrolled, others = (
        None if name is None else open_images(locate(name, place))
        for name in (probes, gallery, distractors)
    )
    assert probe_set is not None
    check_sets(probe_set, enrolled, others)
    answers = open_model(model, file, place)
    with watch("identify", "images") as progress:
        report = search(answers, probe_set, enrolled, others, progress)
    if json:
        print_json({"model": model, **report})
        return
    print_table(["measure", "value", "95 % interval", "threshold"], measure_rows(report), ["value"])
    open_set, enrolled_images = report["open_set"], report["gallery"]["images"]
    note(
        f"{shown(open_set['mated'])} probes with a mate among {shown(enrolled_images)} enrolled "
        f"images, {shown(open_set['unmated'])} strangers"
    )
    if reason := report.get("among_distractors", {}).get("reason"):
        say(f"no rank among distractors: {reason}")
    for rate, each in open_set["fnir_at_fpir"].items():
        if reason := each.get("reason"):
            say(f"no FNIR at FPIR {rate}: {reason}")
            break
