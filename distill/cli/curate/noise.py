"""The command `check`, which finds errors in a data set, and `clean`, which corrects them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.noise.checks import check_names
from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption, print_json
from distill.cli.curate.places import locate, view_path
from distill.cli.curate.view.options import print_view
from distill.cli.model_options import TeacherOptions
from distill.cli.option_groups import grouped
from distill.cli.reports import print_table, shown
from distill.cli.screen import note

if TYPE_CHECKING:
    from curation.noise.findings import Findings

ImagesArgument = Annotated[
    str,
    typer.Argument(
        help="A store or view: its path or workspace name.",
        show_default=False,
        autocompletion=completion.image_sets,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``curate``."""
    app.command(epilog=f"The checks: {', '.join(check_names())}.")(check)
    app.command()(clean)


@grouped
def check(
    images: ImagesArgument,
    teacher: Annotated[
        str,
        typer.Option(
            help="An .onnx file or a file of weights (by path, or in teachers/), a bundle, a "
            "finished job's name, or drawn-faces (for the data set `sample`).",
            show_default=False,
            autocompletion=completion.teachers,
        ),
    ],
    evaluate: Annotated[
        list[Path] | None,
        typer.Option(
            help="A verification set (*.bin) whose people must not be in the training data; "
            "repeat for more.",
            show_default="all *.bin next to the images",
            autocompletion=completion.pair_files,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Run only this check; repeat for more.", show_default="all"),
    ] = None,
    *,
    options: TeacherOptions,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find images and identities that are wrong, with a teacher's embeddings.

    Writes NAME.findings/ next to the images. Its decisions.tsv proposes what to do about each; read
    and edit it, then apply it with `curate clean`. If it is stopped, run the same command to
    continue.

    **Examples**

    `curate check ms1m/train --teacher sface.onnx --colour RGB --mean 0 --std 1`

    `curate check ms1m/train --teacher r100.onnx --colour RGB --mean 127.5 --std 127.5`

    `curate check ms1m/train --teacher job --evaluate lfw.bin`

    `curate check sample/train --teacher drawn-faces --only misplaced --only mixed`
    """
    from curation.noise.analysis import evaluation_sets, find_noise
    from curation.views import open_images
    from curation.workspace import Workspace
    from distill.cli.curate.set_embedder import open_embedder

    place = Workspace.locate(workspace)
    found = open_images(locate(images, place))
    choice = options.choice(teacher)
    embedder = open_embedder(choice, place, note)
    sets = evaluate if evaluate is not None else evaluation_sets(found)
    findings = find_noise(found, embedder, sets, only, watch, note)
    _print_findings(findings, as_json)


def clean(
    images: ImagesArgument,
    destination: Annotated[
        str,
        typer.Argument(help="The view: a path NAME.view or workspace name.", show_default=False),
    ],
    decisions: Annotated[
        Path | None,
        typer.Option(
            help="The table to apply.",
            show_default="NAME.findings/decisions.tsv, as reviewed",
        ),
    ] = None,
    override: Annotated[
        list[Path] | None,
        typer.Option(
            help="Lines that replace those about the same image or identity, as saved by the "
            "report; repeat for more.",
            show_default="none",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Apply decisions: make a view without dropped images, with moved images in their new identity.

    Nothing is deleted, and lines whose first column says `no` are skipped. Decisions of `curate
    review` override the table's lines, unless --decisions names a table. Lines that contradict
    each other, or belong to other findings, are refused.

    **Examples**

    `curate clean ms1m/train ms1m/clean`

    `curate clean ms1m/train ms1m/clean --override mine.tsv --override yours.tsv`
    """
    from curation.noise.clean import write_clean
    from curation.noise.findings import findings_folder
    from curation.review.outcome import decisions_to_carry_out
    from curation.views import open_images
    from curation.workspace import Workspace

    place = Workspace.locate(workspace)
    found = open_images(locate(images, place))
    chosen = decisions_to_carry_out(decisions, override or [], found, findings_folder(found), note)
    path = view_path(destination, place)
    print_view(path, write_clean(path, found, chosen), as_json)


def _print_findings(findings: "Findings", as_json: bool) -> None:
    if as_json:
        print_json({"path": str(findings.path), **findings.meta.model_dump()})
        return
    rows = [
        (one.check, shown(one.flagged), one.summary, f"{one.seconds:.1f} s")
        for one in findings.meta.checks
    ]
    print_table(["check", "flagged", "findings", "time"], rows, ["flagged", "time"])
    note(f"findings and decisions.tsv are in {findings.path}")
    note(f"search over identities: {findings.meta.search}")
