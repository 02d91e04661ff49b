"""The command ``curate``: one file per subject; each registers its commands."""

from typing import Annotated

import typer

from distill.cli.common import HELP_OPTIONS, Commands, run_app, version_printer
from distill.cli.curate import (
    cluster,
    embed,
    export,
    join,
    noise,
    pairs,
    photos,
    recipes,
    report,
    review,
    sources,
    view,
    views,
)

app = typer.Typer(
    name="curate",
    cls=Commands,
    help="Curate face data: convert RecordIO to a store, make subsets without copies, run recipes.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS,
)


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=version_printer("curate"),
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Curate face data: convert RecordIO to a store, make subsets without copies, run recipes."""


for _room in (
    *(recipes, sources, photos, views, view, join, cluster),
    *(export, pairs, embed, noise, report, review),
):
    _room.register(app)


def main() -> None:
    """The entry point of the command."""
    run_app(app)
