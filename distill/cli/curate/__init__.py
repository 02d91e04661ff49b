"""The command ``curate``: one file a subject; each registers its commands."""

import typer

from distill.cli.common import run_app
from distill.cli.curate import export, noise, recipes, report, sources, view, views

app = typer.Typer(
    help="Bring face data in order: RecordIO to a store, subsets without copies, recipes.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

for _room in (recipes, sources, views, view, export, noise, report):
    _room.register(app)


def main() -> None:
    """The entry point of the command."""
    run_app(app)
