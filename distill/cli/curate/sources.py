"""The commands that read and write data sets whole: `convert`, `inspect`."""

from pathlib import Path
from typing import Annotated

import typer

from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.places import locate, note
from distill.cli.reports import print_report


def register(app: typer.Typer) -> None:
    """Add the commands to ``curate``."""
    app.command()(convert)
    app.command()(inspect)


def convert(
    source: Annotated[
        Path, typer.Argument(help="A folder with train.rec, or a .rec file.", show_default=False)
    ],
    destination: Annotated[
        Path, typer.Argument(help="The store to make, NAME.lmdb.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Convert MXNet RecordIO to an LMDB store; the images' bytes are copied as they are.

    Stopped at any moment, the same command goes on where it was.

    **Examples**

    `curate convert /data/faces_emore workspace/datasets/ms1m/train.lmdb`

    `curate convert test.rec test.lmdb`
    """
    from curation.convert import convert as convert_source

    known = destination.exists()
    with watch("convert", "bytes", at_once=False) as progress:
        store = convert_source(source, destination, progress)
    if known:
        note(f"{destination} was complete already, and from this source; nothing to do")
    print_report(
        {"path": str(store.path), "images": len(store), "identities": store.identities}, as_json
    )


def inspect(
    path: Annotated[
        str,
        typer.Argument(
            help="A store, a view, a .rec or .bin file, or a workspace name (DATASET/NAME).",
            show_default=False,
        ),
    ],
    as_json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Say what a store, view, record file or verification set holds.

    **Examples**

    `curate inspect ms1m/train`

    `curate inspect train.lmdb --json`

    `curate inspect /data/faces_emore/lfw.bin`
    """
    from curation.inspection import inspect_path
    from curation.workspace import Workspace

    found = locate(path, Workspace.locate(workspace))
    with watch("read", "bytes", at_once=False) as progress:
        description = inspect_path(found, progress)
    print_report(description, as_json)
