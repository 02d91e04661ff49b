"""What any network is worth, on any set: `evaluate` (1:1) and `identify` (1:N)."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    teacher_choice,
)
from distill.cli.reports import print_table, shown
from distill.cli.screen import note, say

if TYPE_CHECKING:
    from curation.workspace import Workspace
    from distill.evaluation.set_features import EvaluationSet, SetFeatures

LIST_SUFFIXES = (".txt", ".csv", ".tsv")
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A bundle, a finished job, an .onnx file or a file of weights (with --mean, --std and "
        "--colour), or a folder of embeddings, SET.npy.",
        show_default=False,
        autocompletion=completion.teachers,
    ),
]
SetsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SET...",
        help="A .bin of pairs, a list of pairs (.txt, .csv, .tsv), or a store or view, whose "
        "images are all compared; by path or name in the workspace.",
        show_default=False,
        autocompletion=completion.image_sets,
    ),
]
ImagesFolderOption = Annotated[
    Path | None,
    typer.Option("--images", help="The folder where the paths of a list of pairs begin."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (evaluate, identify, threshold):
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

    **Examples**

    `distill evaluate student ms1m/lfw ms1m/test`

    `distill evaluate r50.onnx lfw.bin --mean 127.5 --std 127.5 --colour RGB --json`
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

    **Examples**

    `distill identify student ms1m/test`

    `distill identify student office/today --gallery office/enrolled --distractors street/all`
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


def threshold(
    model: ModelArgument,
    sets: SetsArgument,
    far: Annotated[
        str, typer.Option(help="The share of strangers that may pass: 1e-2, 1e-3 ... 1e-8.")
    ] = "1e-3",
    into: Annotated[
        Path | None,
        typer.Option(
            help="Copy the bundle MODEL to this folder with the thresholds that these sets measure."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another bundle at --into.")
    ] = False,
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
    """Choose the threshold for your own data: the cosine above which two faces are one person.

    Thresholds move with the people, the camera and quantisation, so measure them on images like
    those that the network will see. Of several sets, the one with the most impostor pairs decides.

    **Examples**

    `distill threshold student office/all --far 1e-4`

    `distill threshold student office/all --far 1e-4 --into bundles/student-office`
    """
    from curation.errors import UserError
    from curation.workspace import Workspace
    from distill.evaluation.evaluate_sets import evaluate as score
    from distill.evaluation.rates import EXPONENTS

    place = Workspace.locate(workspace)
    if far not in (rates := [f"1e-{exponent}" for exponent in EXPONENTS]):
        raise UserError(f"--far {far}: allowed are {', '.join(rates)}")
    opened = [open_set(name, place, images) for name in sets]
    bundle = None if into is None else _bundle(model, place)
    answers = open_model(ModelOptions(model, backbone, part, mean, std, colour, size), place)
    with watch("evaluate", "images") as progress:
        report = score(answers, opened, progress)
    found = report["thresholds"]["false_accept_rates"][far]
    if found is None:
        reasons = [f"{name}: {_why(each, far)}" for name, each in report["sets"].items()]
        raise UserError(f"no set measures FAR {far}: {'; '.join(reasons)}")
    measured = report["sets"][found["set"]]["tar_at_far"][far]
    if bundle is not None and into is not None:
        _write_copy(bundle, into, force, report)
    if json:
        print_json({"model": model, "far": far, **found, **measured})
        return
    say(
        f"same person where cosine > {found['threshold']:.4f} "
        f"(95 %: {_interval(measured.get('threshold_interval'))})"
    )
    say(
        f"at FAR {far} this accepts {found['tar']:.4f} of the genuine pairs "
        f"(95 %: {_interval(measured.get('interval'))})"
    )
    note(
        f"measured on {found['set']}: {shown(found['genuine'])} genuine and "
        f"{shown(found['impostors'])} impostor pairs, set {found['digest'][:12]}"
    )
    if into is not None:
        say(f"a copy of the bundle with these thresholds is in {into}")


def _why(report: dict[str, Any], far: str) -> str:
    return str(report["tar_at_far"][far].get("reason") or "not the largest")


def _bundle(model: str, place: "Workspace") -> Path:
    """The folder of the bundle that MODEL names."""
    from curation.errors import UserError
    from distill.pipeline.teacher_files import find_teacher, is_bundle

    path = find_teacher(model, place)
    if not is_bundle(path):
        raise UserError(f"--into copies a bundle, and {model} is none; leave it out")
    return path


def _write_copy(bundle: Path, into: Path, force: bool, report: dict[str, Any]) -> None:
    from distill.daemon.delivery import deliver
    from distill.export.remeasured import put_thresholds

    deliver(
        bundle, into, force, lambda copy: put_thresholds(copy, report["sets"], report["thresholds"])
    )


@dataclass(frozen=True)
class ModelOptions:
    """A network as the command line names it."""

    name: str
    backbone: str | None
    part: str | None
    mean: float | None
    std: float | None
    colour: str | None
    size: int


def open_model(model: ModelOptions, place: "Workspace") -> "SetFeatures":
    """What a model of any kind answers; ``UserError`` where there is none."""
    from distill.cli.curate.set_embedder import open_embedder
    from distill.evaluation.set_features import FEATURES, GivenFeatures, NetworkFeatures

    folder = Path(model.name)
    if folder.is_dir() and any(folder.glob("*.npy")) and not (folder / "config.json").exists():
        return GivenFeatures(folder)
    choice = teacher_choice(
        model.name,
        model.backbone,
        model.part,
        model.colour,
        model.mean,
        model.std,
        model.size,
        None,
    )
    return NetworkFeatures(open_embedder(choice, place).teacher, place.cache / FEATURES)


def open_set(name: str, place: "Workspace", images: Path | None = None) -> "EvaluationSet":
    """A set by path or name in the workspace, which gives some score; else ``UserError``."""
    from curation.errors import UserError
    from curation.pairs import VerificationPairs, read_pairs
    from curation.views import open_images
    from distill.cli.curate.places import locate
    from distill.evaluation.measurable import check_all_pairs, check_measurable

    path = Path(name) if Path(name).suffix in LIST_SUFFIXES else locate(name, place)
    try:
        if path.suffix in LIST_SUFFIXES:
            found: EvaluationSet = listed_pairs(path, images)
        else:
            found = read_pairs(path) if path.suffix == ".bin" else open_images(path)
        if isinstance(found, VerificationPairs):
            check_measurable(found)
        else:
            check_all_pairs(found)
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{name}: {error}") from None
    return found


def listed_pairs(path: Path, images: Path | None) -> "EvaluationSet":
    """The pairs of a list as a set of the list's name."""
    import hashlib

    from curation.pair_sets.making import pairs_of_list
    from curation.pairs import VerificationPairs

    with watch("read", "pairs") as progress:
        made = pairs_of_list(path, images, progress=progress)
    digest = hashlib.sha256(made.same.tobytes())
    for image in made.images:
        digest.update(hashlib.sha256(image).digest())
    return VerificationPairs(list(made.images), made.same, digest.hexdigest(), path.stem)


def _rows(name: str, report: dict[str, Any]) -> list[list[str]]:
    """Set, measure, value, interval, threshold."""
    rows = []
    if report.get("accuracy") is not None:
        rows.append(
            [
                name,
                "accuracy",
                f"{report['accuracy']:.4f} ± {report['std']:.4f}",
                _interval(report.get("accuracy_interval")),
                f"{report['cosine_threshold']:.4f}",
            ]
        )
    for key, measure in (("auc", "area under the ROC"), ("eer", "equal error rate")):
        if report.get(key) is not None:
            rows.append([name, measure, f"{report[key]:.4f}", "", ""])
    for rate, each in report["tar_at_far"].items():
        if each["tar"] is not None:
            threshold = f"{each['cosine_threshold']:.4f}"
            value = f"{each['tar']:.4f}"
            rows.append(
                [name, f"TAR at FAR {rate}", value, _interval(each.get("interval")), threshold]
            )
    return rows


def _search_rows(report: dict[str, Any]) -> list[list[str]]:
    rows = [
        [f"rank {rank}", f"{each['rate']:.4f}", _interval(each["interval"]), ""]
        for rank, each in report["closed_set"]["ranks"].items()
    ]
    for size, ranks in report.get("among_distractors", {}).get("distractors", {}).items():
        first = ranks["1"]
        title = f"rank 1 among {int(size):,} distractors"
        rows.append([title, f"{first['rate']:.4f}", _interval(first["interval"]), ""])
    for rate, each in report["open_set"]["fnir_at_fpir"].items():
        if each["fnir"] is not None:
            value, interval = f"{each['fnir']:.4f}", _interval(each["interval"])
            rows.append([f"FNIR at FPIR {rate}", value, interval, f"{each['threshold']:.4f}"])
    return rows


def _interval(interval: list[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
