"""The command ``curate``: data sets in, stores and views out."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli.bars import watch
from distill.cli.common import JsonOption, WorkspaceOption, print_json, run_app
from distill.cli.reports import print_report, print_table, shown

if TYPE_CHECKING:
    from curation.recipe import Made
    from curation.workspace import Workspace

FILE_SUFFIXES = (".lmdb", ".partial", ".view", ".rec", ".bin")

app = typer.Typer(
    help="Bring face data in order: RecordIO to a store, subsets without copies, recipes.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The entry point of the command."""
    run_app(app)


@app.command()
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
        _note(f"{destination} was complete already, and from this source; nothing to do")
    print_report(
        {"path": str(store.path), "images": len(store), "identities": store.identities}, as_json
    )


@app.command()
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

    found = _locate(path, Workspace.locate(workspace))
    with watch("read", "bytes", at_once=False) as progress:
        description = inspect_path(found, progress)
    print_report(description, as_json)


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(help="See `curate recipes`.", show_default=False)],
    source: Annotated[
        Path | None,
        typer.Option(
            help="The folder with train.rec, .idx, property and *.bin.",
            show_default="$MS1M_SOURCE, or sources/DATASET in the workspace",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="The name of the data set to make.", show_default="the recipe's own"),
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a data set as a recipe says; steps that are done are not done again.

    **Examples**

    `curate recipe sample`

    `curate recipe ms1m --source /data/faces_emore`

    `curate recipe ms1m --source /data/my-faces --dataset real-faces`
    """
    from curation.recipe import run_recipe
    from curation.workspace import Workspace

    made = run_recipe(name, Workspace.locate(workspace), source, dataset, watch)
    if as_json:
        print_json([asdict(entry) | {"path": str(entry.path)} for entry in made])
    else:
        _print_made(made)


@app.command()
def recipes(as_json: JsonOption = False) -> None:
    """List the recipes.

    **Example**

    `curate recipes --json`
    """
    from curation.recipe_file import load_recipe, recipe_names

    found = {name: load_recipe(name) for name in recipe_names()}
    if as_json:
        print_json([{"name": name, **recipe.model_dump()} for name, recipe in found.items()])
    else:
        rows = [
            (name, recipe.dataset, ", ".join(step.do for step in recipe.step), recipe.description)
            for name, recipe in found.items()
        ]
        print_table(["recipe", "data set", "steps", "what it makes"], rows)


@app.command()
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
    images = open_images(_locate(parent, place))
    path = _view_path(destination, place)
    if minimum is not None:
        made = write_long_tail_cut(path, images, minimum)
    else:
        assert maximum is not None
        made = write_retina_s(path, images, maximum)
    step = made.history[-1].model_dump()
    print_report(
        {"path": str(path), "images": len(made), "identities": made.identities, **step}, as_json
    )


@app.command()
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

    found = open_images(_locate(source, Workspace.locate(workspace)))
    with watch("write", "images", at_once=False) as progress:
        paths = write_images(found, folder, identities, each, progress)
    _note(f"wrote {len(paths)} images to {folder}")


def _locate(name: str, workspace: "Workspace") -> Path:
    """A path as it is; else what the workspace has under the name, finished or not."""
    path = Path(name)
    if path.exists() or path.is_absolute() or path.suffix in FILE_SUFFIXES:
        return path
    base = workspace.inside(name, workspace.datasets, "data set")
    for other in (f"{base}.bin", f"{base}.lmdb.partial"):
        if Path(other).exists():
            return Path(other)
    return workspace.image_set(name)


def _view_path(name: str, workspace: "Workspace") -> Path:
    if Path(name).suffix == ".view":
        return Path(name)
    base = workspace.inside(name, workspace.datasets, "view")
    return base.with_name(f"{base.name}.view")


def _note(text: str) -> None:
    """A remark for people, beside what the command prints for machines."""
    typer.echo(text, err=True)


def _print_made(made: "list[Made]") -> None:
    rows = [
        (
            entry.kind,
            _near(entry.path),
            shown(entry.images),
            shown(entry.identities),
            "; ".join(filter(None, [entry.note, "made earlier" if entry.reused else ""])),
        )
        for entry in made
    ]
    print_table(["what", "path", "images", "identities", "note"], rows)


def _near(path: Path) -> str:
    """The path as short as it can be said from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


if __name__ == "__main__":
    main()
