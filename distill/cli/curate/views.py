"""The commands that show contents: `inspect`, `images`."""

from pathlib import Path
from typing import Annotated

import typer

from curation.wording import counted
from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.drawing import print_inspection
from distill.cli.curate.label_options import LabelOptions
from distill.cli.curate.places import locate
from distill.cli.curate.sources import progress_unit
from distill.cli.option_groups import grouped
from distill.cli.reports import print_report
from distill.cli.screen import note


def register(app: typer.Typer) -> None:
    """Add the commands to ``curate``."""
    app.command()(inspect)
    app.command()(images)


@grouped
def inspect(
    path: Annotated[
        str,
        typer.Argument(
            help="A store, a view, a source, a .bin file, or a workspace name (DATASET/NAME).",
            show_default=False,
            autocompletion=completion.data_sets,
        ),
    ],
    *,
    labels: LabelOptions,
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Describe a store, view, source or verification set: its contents and its history.

    The history of a view is a table of steps and what each kept. A histogram shows the images per
    identity.

    **Examples**

    `curate inspect ms1m/train`

    `curate inspect train.lmdb --json`

    `curate inspect /data/faces_emore/lfw.bin`

    `curate inspect /data/faces.csv --label-key person`
    """
    from curation.inspection import inspect_path
    from curation.workspace import Workspace

    found = locate(path, Workspace.locate(workspace))
    with watch("read", progress_unit(found), at_once=False) as progress:
        description = inspect_path(found, progress, labels.choice())
    if as_json:
        print_report(description, as_json)
    else:
        print_inspection(description)


def images(
    source: Annotated[
        str,
        typer.Argument(
            help="A store or view: its path or workspace name.",
            show_default=False,
            autocompletion=completion.image_sets,
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="The folder to write to.", show_default=False)],
    identities: Annotated[
        int | None, typer.Option(min=1, help="Only the first N identities.", show_default="all")
    ] = None,
    each: Annotated[
        int | None, typer.Option(min=1, help="Only the first N images of each.", show_default="all")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Write images as files, FOLDER/IDENTITY/INDEX.jpg, to look at or to embed.

    **Examples**

    `curate images ms1m/train faces/ --identities 3`

    `curate images retina-s.view faces/ --identities 100 --each 2`
    """
    from curation.extract import write_images
    from curation.views import open_images
    from curation.workspace import Workspace

    found = open_images(locate(source, Workspace.locate(workspace)))
    with watch("write", "images", at_once=False) as progress:
        paths = write_images(found, folder, identities, each, progress)
    note(f"wrote {counted(len(paths), 'image')} to {folder}")
