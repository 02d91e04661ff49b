"""The commands that read whole data sets: `convert`, `verify`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from curation.errors import UserError
from curation.printable import argument
from curation.wording import counted
from distill.cli import completion
from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption
from distill.cli.curate.label_options import LabelOptions
from distill.cli.curate.places import locate
from distill.cli.option_groups import grouped
from distill.cli.reports import print_report
from distill.cli.screen import note, say


def register(app: typer.Typer) -> None:
    """Add the commands to ``curate``."""
    app.command()(convert)
    app.command()(verify)


@grouped
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="RecordIO (train.rec), a folder of images, a list of them, tar or zip archives, "
            "Parquet, Arrow, an LMDB; a file, a folder of files, or a pattern in quotes.",
            show_default=False,
        ),
    ],
    destination: Annotated[
        Path,
        typer.Argument(
            help="The store to make. Jobs find workspace/datasets/SET/NAME.lmdb as SET/NAME.",
            show_default=False,
        ),
    ],
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad", help="Leave bad records out and list them in quarantine.tsv in the store."
        ),
    ] = False,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode",
            help="Decode every image, and treat one that cannot be decoded as a bad record.",
        ),
    ] = False,
    unlabelled: Annotated[
        bool,
        typer.Option("--unlabelled", help="Ignore the labels."),
    ] = False,
    *,
    labels: LabelOptions,
    as_json: JsonOption = False,
) -> None:
    """Convert a data set to an LMDB store. The bytes of the images are copied unchanged.

    If it is interrupted, run the same command again to continue.

    **Examples**

    `curate convert /data/faces_emore workspace/datasets/ms1m/train.lmdb`

    `curate convert test.rec test.lmdb --decode --skip-bad`

    `curate convert /data/faces faces.lmdb`

    `curate convert '/data/ms1mv3-{0000..0099}.tar' ms1mv3.lmdb`

    `curate convert /data/street street.lmdb --unlabelled`

    `curate convert /data/cfp/Images cfp.lmdb --identity-folder 2`
    """
    from curation.conversion.convert import convert as convert_source

    choice = labels.choice(unlabelled=unlabelled)
    known = destination.exists()
    if not destination.is_absolute() and destination.suffix != ".lmdb":
        note(
            f"the store's place is the path {destination.absolute()}; for jobs to find it as "
            f"SET/NAME, give workspace/datasets/SET/NAME.lmdb"
        )
    with watch("convert", "images", at_once=False) as progress:
        warnings: list[str] = []
        store = convert_source(
            source,
            destination,
            progress,
            skip_bad=skip_bad,
            decode=decode,
            unlabelled=unlabelled,
            choice=choice,
            warn=warnings.append,
        )
    if known:
        note(f"{destination} is already complete and was made from this source; nothing to do")
    if store.meta.skipped:
        bad = counted(store.meta.skipped, "bad record")
        note(f"skipped {bad}: {store.path / 'quarantine.tsv'}")
    for line in warnings:
        note(f"warning: {line}")
    report = {
        "path": str(store.path),
        "images": len(store),
        "identities": store.identities,
        "unlabelled": store.unlabelled,
        "skipped": store.meta.skipped,
    }
    print_report(report | ({"warnings": warnings} if as_json else {}), as_json)


def verify(
    path: Annotated[
        str,
        typer.Argument(
            help="A store, a view, a workspace name (DATASET/NAME), or what `convert` takes.",
            autocompletion=completion.image_sets,
            show_default=False,
        ),
    ],
    decode: Annotated[
        bool, typer.Option("--decode", help="Also decode every image, which is slower.")
    ] = False,
    list_file: Annotated[
        Path | None,
        typer.Option("--list", help="Write the keys of bad images here, for `curate view drop`."),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every image, key and label of a store or view; the exit status is 1 if any is bad.

    The keys of the first 20 bad images are shown (the first 1,000 with --json); --list writes all
    of them.

    **Examples**

    `curate verify ms1m/train`

    `curate verify ms1m/train --decode --list bad.txt`

    `curate view drop ms1m/train ms1m/whole bad.txt --by key`
    """
    from curation.verify import verify as verify_path
    from curation.workspace import Workspace

    found = locate(path, Workspace.locate(workspace))
    with watch("verify", progress_unit(found), at_once=False) as progress:
        report = verify_path(found, decode, progress, list_file)
    if as_json:
        print_report(report, as_json)
    else:
        shown = report.pop("bad_images")
        print_report(report, as_json)
        _print_bad(shown[:SHOWN], report["bad"])
    if report["bad"]:
        raise UserError(_what_to_do(path, report, list_file))


SHOWN = 20
"""Maximum bad images shown"""


def _print_bad(shown: list[dict[str, Any]], count: int) -> None:
    for bad in shown:
        where = f"image {bad['image']}" if "image" in bad else f"record at byte {bad['byte']}"
        say(f"{where}, key {'unknown' if bad['key'] is None else bad['key']}: {bad['reason']}")
    if count > len(shown):
        say(f"and {count - len(shown):,} more; --list FILE writes all")


def _what_to_do(path: str, report: dict[str, Any], list_file: Path | None) -> str:
    if report["kind"] == "records":
        return (
            f"{report['bad']:,} records of {path} are bad; `curate convert {argument(path)} "
            "NAME.lmdb --decode --skip-bad` leaves them out"
        )
    counted = f"{report['bad']:,} of {report['images']:,} images of {path} are bad"
    name = list_file or "LIST"
    how = "" if list_file else "write them to a file with --list LIST, then "
    return (
        f"{counted}; {how}`curate view drop {argument(path)} NEW {argument(name)} --by key` makes "
        "a view without them"
    )


def progress_unit(path: Path) -> str:
    """The unit of progress when reading ``path``."""
    from curation.sources.opening import find_format

    source = find_format(path)
    return "images" if source is None else source.unit
