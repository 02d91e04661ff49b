"""The command `export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.places import locate
from distill.cli.reports import print_report


class Form(StrEnum):
    """Format of an exported data set."""

    RECORDIO = "recordio"
    FOLDERS = "folders"
    WEBDATASET = "webdataset"
    PARQUET = "parquet"


def register(app: typer.Typer) -> None:
    """Add the command to ``curate``."""
    app.command()(export)


def export(
    source: Annotated[
        str,
        typer.Argument(
            help="A store or view: its path or workspace name.",
            show_default=False,
            autocompletion=completion.image_sets,
        ),
    ],
    destination: Annotated[Path, typer.Argument(help="The folder to make.", show_default=False)],
    form: Annotated[
        Form,
        typer.Option(
            "--as",
            help="RecordIO in insightface's layout, image folders, WebDataset shards, or Parquet.",
        ),
    ] = Form.RECORDIO,
    original: Annotated[
        bool, typer.Option("--original", help="Keep the source's labels, record keys and order.")
    ] = False,
    array_labels: Annotated[
        bool,
        typer.Option("--array-labels", help="Write RecordIO with the labels [label, 0]."),
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export a store or view. The bytes of the images are copied unchanged.

    Identities get the labels 0, 1, ... that they have in the store or view. An export that is
    stopped leaves nothing at DESTINATION; run the same command to start over.

    **Examples**

    `curate export ms1m/retina-s retina-s/`

    `curate export ms1m/train ms1m-again/ --original`

    `curate export retina-s.view faces/ --as folders`

    `curate export ms1m/train shards/ --as webdataset`
    """
    from curation.errors import UserError
    from curation.export import export_folders, export_records
    from curation.export_shards import export_parquet, export_webdataset
    from curation.views import open_images
    from curation.workspace import Workspace

    if array_labels and form is not Form.RECORDIO:
        raise UserError(f"--array-labels is for --as recordio; {form} has no label vectors")
    images = open_images(locate(source, Workspace.locate(workspace)))
    with watch("export", "images", at_once=False) as progress:
        if form is Form.RECORDIO:
            export_records(images, destination, original, array_labels, progress)
        else:
            write = {
                Form.FOLDERS: export_folders,
                Form.WEBDATASET: export_webdataset,
                Form.PARQUET: export_parquet,
            }[form]
            write(images, destination, original, progress)
    report = {
        "path": str(destination),
        "images": len(images),
        "identities": images.identities,
        "unlabelled": images.unlabelled,
    }
    print_report(report, as_json)
