"""The `distill` command."""

from typing import Annotated

import typer

from distill.cli import bundles, jobs, networks, run
from distill.cli.common import run_app

app = typer.Typer(
    name="distill",
    help="Distil a big face network into a small one: run jobs, follow them, pull what comes out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(asked: bool) -> None:
    if asked:
        from distill import __version__

        typer.echo(f"distill {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Distil a big face network into a small one."""


for _room in (run, jobs, networks, bundles):
    _room.register(app)


def main() -> None:
    """Entry point of the `distill` command."""
    run_app(app)


if __name__ == "__main__":
    main()
