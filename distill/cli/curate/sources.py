"""The commands that read data sets whole: `convert`, `verify`."""

from pathlib import Path
from typing import Annotated

import typer

from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.places import locate
from distill.cli.reports import print_report
from distill.cli.screen import note


def register(app: typer.Typer) -> None:
    """Add the commands to ``curate``."""
    app.command()(convert)
    app.command()(verify)


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder with train.rec, a .rec file, a folder IDENTITY/*.jpg, or a .lst list.",
            show_default=False,
        ),
    ],
    destination: Annotated[
        Path, typer.Argument(help="The store to make, NAME.lmdb.", show_default=False)
    ],
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Leave bad records out and list them in quarantine.tsv in the store."
        ),
    ] = False,
    decode: Annotated[
        bool,
        typer.Option("--decode", help="Decode every image: one that cannot be is a bad record."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Convert RecordIO or image files to an LMDB store; the images' bytes are copied as they are.

    Stopped at any moment, the same command goes on where it was.

    **Examples**

    `curate convert /data/faces_emore workspace/datasets/ms1m/train.lmdb`

    `curate convert test.rec test.lmdb --decode --skip-bad`

    `curate convert /data/faces faces.lmdb`
    """
    from curation.conversion.convert import convert as convert_source

    known = destination.exists()
    with watch("convert", "images", at_once=False) as progress:
        warnings: list[str] = []
        store = convert_source(
            source,
            destination,
            progress,
            skip_bad=skip_bad,
            decode=decode,
            warn=warnings.append,
        )
    if known:
        note(f"{destination} was complete already, and from this source; nothing to do")
    if store.meta.skipped:
        note(f"skipped {store.meta.skipped:,} bad records: {store.path / 'quarantine.tsv'}")
    for line in warnings:
        note(f"warning: {line}")
    report = {
        "path": str(store.path),
        "images": len(store),
        "identities": store.identities,
        "skipped": store.meta.skipped,
    }
    print_report(report | ({"warnings": warnings} if as_json else {}), as_json)


def verify(
    path: Annotated[
        str,
        typer.Argument(
            help="A store, a view, a .rec file, or a workspace name (DATASET/NAME).",
            show_default=False,
        ),
    ],
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image too.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every image, key and label of a store or view; exit with 1 at the first damage.

    **Examples**

    `curate verify ms1m/train`

    `curate verify train.lmdb --decode --json`
    """
    from curation.verify import verify as verify_path
    from curation.workspace import Workspace

    found = locate(path, Workspace.locate(workspace))
    with watch("verify", _unit(found), at_once=False) as progress:
        report = verify_path(found, decode, progress)
    print_report(report, as_json)


def _unit(path: Path) -> str:
    """What progress on ``path`` counts."""
    return "bytes" if path.suffix == ".rec" or (path / "train.rec").exists() else "images"
