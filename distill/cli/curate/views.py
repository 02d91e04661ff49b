"""The commands on subsets: `view`, `images`."""

from pathlib import Path
from typing import Annotated

import typer

from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.places import locate, note, view_path
from distill.cli.reports import print_report


def register(app: typer.Typer) -> None:
    """Add the commands to ``curate``."""
    app.command()(view)
    app.command()(images)


def view(
    parent: Annotated[
        str,
        typer.Argument(help="A store or view: its path or workspace name.", show_default=False),
    ],
    destination: Annotated[
        str,
        typer.Argument(help="The view: a path NAME.view or workspace name.", show_default=False),
    ],
    minimum: Annotated[
        int | None,
        typer.Option(min=2, help="Long-tail cut: drop identities with fewer images."),
    ] = None,
    maximum: Annotated[
        int | None,
        typer.Option(min=1, help="Retina-S: drop identities with more images (it cuts the head)."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a subset without copying: exactly one of --minimum and --maximum.

    **Examples**

    `curate view ms1m/train ms1m/frequent --minimum 10`

    `curate view train.lmdb retina-s.view --maximum 50`
    """
    from curation.errors import UserError
    from curation.subsets import write_long_tail_cut, write_retina_s
    from curation.views import open_images
    from curation.workspace import Workspace

    if (minimum is None) == (maximum is None):
        raise UserError("say either --minimum N (long-tail cut) or --maximum N (Retina-S)")
    place = Workspace.locate(workspace)
    images = open_images(locate(parent, place))
    path = view_path(destination, place)
    if minimum is not None:
        made = write_long_tail_cut(path, images, minimum)
    else:
        assert maximum is not None
        made = write_retina_s(path, images, maximum)
    step = made.history[-1].model_dump()
    print_report(
        {"path": str(path), "images": len(made), "identities": made.identities, **step}, as_json
    )


def images(
    source: Annotated[
        str,
        typer.Argument(help="A store or view: its path or workspace name.", show_default=False),
    ],
    folder: Annotated[Path, typer.Argument(help="Where to write the files.", show_default=False)],
    identities: Annotated[
        int | None, typer.Option(min=1, help="Only the first identities.", show_default="all")
    ] = None,
    each: Annotated[
        int | None, typer.Option(min=1, help="Only the first images of each.", show_default="all")
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
    note(f"wrote {len(paths)} images to {folder}")
