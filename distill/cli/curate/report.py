"""The command `report`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.places import locate
from distill.cli.reports import print_report

if TYPE_CHECKING:
    from curation.image_set import ImageSet
    from curation.workspace import Workspace


def register(app: typer.Typer) -> None:
    """Add the command to ``curate``."""
    app.command()(report)


def report(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SET",
            help="A store or view: its path or workspace name.",
            show_default=False,
            autocompletion=completion.image_sets,
        ),
    ],
    to: Annotated[
        Path | None, typer.Option(help="The page to write.", show_default="SET.report.html")
    ] = None,
    view: Annotated[
        list[str] | None,
        typer.Option(
            help="A view to show in the funnel of steps; repeat for more.",
            show_default="those next to it",
        ),
    ] = None,
    evaluate: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.bin",
            help="A verification set for the check `overlap`; repeat for more.",
            autocompletion=completion.pair_files,
            show_default="those next to the store",
        ),
    ] = None,
    examples: Annotated[
        int,
        typer.Option(
            min=1,
            max=200,
            help="How many of the worst cases, and how many of the borderline cases, to show for "
            "each check.",
        ),
    ] = 24,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one HTML page about a data set: its funnel, its histograms, and what was flagged.

    The page is self-contained, so it can be shared. Accept or reject the cases on it and download
    the verdicts for `curate clean --override FILE`.

    **Examples**

    `curate report ms1m/train`

    `curate report train.lmdb --to report.html --examples 50`
    """
    from curation.report.page import write_report
    from curation.report.siblings import given_pairs, sibling_findings, sibling_pairs
    from curation.views import open_images
    from curation.workspace import Workspace

    place = Workspace.locate(workspace)
    images = open_images(locate(source, place))
    findings = sibling_findings(images)
    with watch("report", "checks", at_once=False) as progress:
        written = write_report(
            to or images.path.with_name(f"{images.name}.report.html"),
            images,
            findings,
            _views(view, images, place),
            given_pairs(evaluate, findings) if evaluate else sibling_pairs(images),
            examples,
            progress,
        )
    print_report(
        {
            "path": str(written.path),
            "bytes": written.bytes,
            "checks": written.checks,
            "cases": written.cases,
        },
        as_json,
    )


def _views(names: list[str] | None, images: "ImageSet", place: "Workspace") -> list:
    from curation.report.siblings import sibling_views
    from curation.views import View

    return [View(locate(name, place)) for name in names] if names else sibling_views(images)
