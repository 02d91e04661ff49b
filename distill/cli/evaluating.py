"""What any network is worth, on any set: `evaluate` (1:1) and `identify` (1:N)."""

from typing import Annotated, Any

import typer

from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import RESULTS, JsonOption, WorkspaceOption, print_json
from distill.cli.curate.noise import (
    BackboneOption,
    ColourOption,
    MeanOption,
    PartOption,
    SizeOption,
    StdOption,
)
from distill.cli.reports import print_table, shown
from distill.cli.scored import (
    ImagesFolderOption,
    ModelArgument,
    ModelOptions,
    SetsArgument,
    open_model,
    open_set,
    shown_interval,
)
from distill.cli.screen import note, say


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (evaluate, identify):
        app.command(rich_help_panel=RESULTS)(command)


def evaluate(
    model: ModelArgument,
    sets: SetsArgument,
    images: ImagesFolderOption = None,
    backbone: BackboneOption = None,
    part: PartOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    colour: ColourOption = None,
    size: SizeOption = 112,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Verify pairs of faces (1:1) with any network, every figure with its 95 % interval.

    Embeddings are kept in the workspace, so that the next run with another set only embeds that.

    Example: distill evaluate student ms1m/lfw ms1m/test

    Example: distill evaluate r50.onnx lfw.bin --mean 127.5 --std 127.5 --colour RGB --json
    """
    from curation.workspace import Workspace
    from distill.evaluation.evaluate_sets import evaluate as score

    place = Workspace.locate(workspace)
    opened = [open_set(name, place, images) for name in sets]
    answers = open_model(ModelOptions(model, backbone, part, mean, std, colour, size), place)
    with watch("evaluate", "images") as progress:
        report = score(answers, opened, progress)
    if json:
        print_json({"model": model, **report})
        return
    rows = [row for name, each in report["sets"].items() for row in _rows(name, each)]
    print_table(["set", "measure", "value", "95 % interval", "threshold"], rows, ["value"])
    for name, each in report["sets"].items():
        counts = f"{shown(each['genuine'])} genuine and {shown(each['impostors'])} impostor pairs"
        note(f"{name}: {counts}, set {each['digest'][:12]}")
        if reason := each.get("reason"):
            note(f"{name} has no accuracy: {reason}")
    note(f"network {report['embedder'][:12]}, preprocessing {report['preprocessing'][:12]}")


def identify(
    model: ModelArgument,
    probes: Annotated[
        str,
        typer.Argument(
            help="A store or view of known people.", autocompletion=completion.image_sets
        ),
    ],
    gallery: Annotated[
        str | None,
        typer.Option(
            help="The enrolled images, another view of the same store.",
            show_default="the first image of each identity of PROBES that has several",
            autocompletion=completion.image_sets,
        ),
    ] = None,
    distractors: Annotated[
        str | None,
        typer.Option(
            help="A store or view of other people beside the gallery.",
            autocompletion=completion.image_sets,
        ),
    ] = None,
    backbone: BackboneOption = None,
    part: PartOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    colour: ColourOption = None,
    size: SizeOption = 112,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Search faces in a gallery (1:N) with any network, every figure with its 95 % interval.

    Closed set: how often the mate is among the first R. Open set: FNIR, the share of people in the
    gallery who are not found, where FPIR, the share of strangers who are taken for somebody, is
    given. Among distractors: MegaFace's identification.

    Example: distill identify student ms1m/test

    Example: distill identify student office/today --gallery office/known --distractors street/all
    """
    from curation.views import open_images
    from curation.workspace import Workspace
    from distill.cli.curate.places import locate
    from distill.evaluation.identify_sets import check_sets
    from distill.evaluation.identify_sets import identify as search

    place = Workspace.locate(workspace)
    asked, enrolled, others = (
        None if name is None else open_images(locate(name, place))
        for name in (probes, gallery, distractors)
    )
    assert asked is not None
    check_sets(asked, enrolled, others)
    answers = open_model(ModelOptions(model, backbone, part, mean, std, colour, size), place)
    with watch("identify", "images") as progress:
        report = search(answers, asked, enrolled, others, progress)
    if json:
        print_json({"model": model, **report})
        return
    print_table(["measure", "value", "95 % interval", "threshold"], _search_rows(report), ["value"])
    open_set, enrolled_images = report["open_set"], report["gallery"]["images"]
    note(
        f"{shown(open_set['mated'])} probes with a mate among {shown(enrolled_images)} enrolled "
        f"images, {shown(open_set['unmated'])} strangers"
    )
    for rate, each in open_set["fnir_at_fpir"].items():
        if reason := each.get("reason"):
            say(f"no FNIR at FPIR {rate}: {reason}")
            break


def _rows(name: str, report: dict[str, Any]) -> list[list[str]]:
    """Set, measure, value, interval, threshold."""
    rows = []
    if report.get("accuracy") is not None:
        rows.append(
            [
                name,
                "accuracy",
                f"{report['accuracy']:.4f} ± {report['std']:.4f}",
                shown_interval(report.get("accuracy_interval")),
                f"{report['cosine_threshold']:.4f}",
            ]
        )
    for key, measure in (("auc", "area under the ROC"), ("eer", "equal error rate")):
        if report.get(key) is not None:
            interval = shown_interval(report.get(f"{key}_interval"))
            rows.append([name, measure, f"{report[key]:.4f}", interval, ""])
    for rate, each in report["tar_at_far"].items():
        if each["tar"] is not None:
            threshold = f"{each['cosine_threshold']:.4f}"
            value = f"{each['tar']:.4f}"
            rows.append(
                [name, f"TAR at FAR {rate}", value, shown_interval(each.get("interval")), threshold]
            )
    return rows


def _search_rows(report: dict[str, Any]) -> list[list[str]]:
    rows = [
        [f"rank {rank}", f"{each['rate']:.4f}", shown_interval(each["interval"]), ""]
        for rank, each in report["closed_set"]["ranks"].items()
    ]
    for size, ranks in report.get("among_distractors", {}).get("distractors", {}).items():
        first = ranks["1"]
        title = f"rank 1 among {int(size):,} distractors"
        rows.append([title, f"{first['rate']:.4f}", shown_interval(first["interval"]), ""])
    for rate, each in report["open_set"]["fnir_at_fpir"].items():
        if each["fnir"] is not None:
            value, interval = f"{each['fnir']:.4f}", shown_interval(each["interval"])
            rows.append([f"FNIR at FPIR {rate}", value, interval, f"{each['threshold']:.4f}"])
    return rows
