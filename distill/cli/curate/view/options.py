"""Shared by the commands of `curate view`: options, and the creation of a view."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.cli import completion
from distill.cli.common import print_json
from distill.cli.curate.places import locate, view_path
from distill.cli.reports import print_report

if TYPE_CHECKING:
    from curation.views import View

Parent = Annotated[
    str,
    typer.Argument(
        help="A store or view: its path or workspace name.",
        show_default=False,
        autocompletion=completion.image_sets,
    ),
]
Destination = Annotated[
    str, typer.Argument(help="The view: a path NAME.view or workspace name.", show_default=False)
]
Listed = Annotated[
    Path, typer.Argument(help="A text file that lists images or identities.", show_default=False)
]
ListedBy = Annotated[
    str,
    typer.Option("--by", help="How the list names them: by label, key, index, identity or name."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the random choice.")]


def make_view(
    write: Callable[..., Any],
    parents: list[str],
    destination: str,
    workspace: Path | None,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Open the parents, write the view, and report the step."""
    from curation.files import check_free
    from curation.views import open_images
    from curation.workspace import Workspace

    if "listed" in parameters:
        _check_list(parameters["listed"], destination)
    place = Workspace.locate(workspace)
    images = [open_images(locate(parent, place)) for parent in parents]
    path = view_path(destination, place)
    check_free(path)  # before long work
    made = write(path, *images, **parameters)
    print_view(path, made, as_json)


def _check_list(listed: Path, destination: str) -> None:
    """Raise ``UserError`` if the list cannot be opened, perhaps because it was given first."""
    from curation.errors import UserError
    from curation.files import UnreadableError, regular_file_size

    try:
        regular_file_size(listed)
    except UnreadableError as error:
        if not Path(destination).is_file():
            raise
        raise UserError(
            f"{error}; {destination} is a file: give the view before the list, PARENT "
            f"{listed} {destination}"
        ) from None


def print_view(path: Path, made: "View", as_json: bool) -> None:
    """Print a new view, what it kept of its parent, and the parameters of its last step."""
    step = made.history[-1].model_dump(exclude={"other": {"history"}})
    counts = {"images": len(made), "identities": made.identities}
    if as_json:
        print_json({"path": str(path)} | counts | step)
        return
    kept = {name: f"{count:,} of {step[f'{name}_before']:,}" for name, count in counts.items()}
    other = {"other": step["other"]} if "other" in step else {}
    print_report(
        {"path": str(path)} | kept | {"step": step["name"]} | step["parameters"] | other, False
    )
