"""The `distill` command."""

from typing import Annotated

import typer

from distill.cli import (
    bundles,
    doctor,
    evaluating,
    exporting,
    init,
    jobs,
    latency,
    networks,
    reporting,
    run,
    schema,
    signing,
    thresholds,
    verifying,
    views,
)
from distill.cli.common import HELP_OPTIONS, Commands, run_app, version_printer

app = typer.Typer(
    name="distill",
    cls=Commands,
    help="Distil a large face network into a small one: run jobs, follow them, pull the results.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings=HELP_OPTIONS,
)


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=version_printer("distill"),
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
) -> None:
    """Distil a big face network into a small one."""


_RESULTS = (evaluating, exporting, latency, thresholds, signing, reporting)
for _room in (init, schema, run, views, jobs, networks, bundles, verifying, *_RESULTS, doctor):
    _room.register(app)


def main() -> None:
    """Entry point of the `distill` command."""
    run_app(app)


if __name__ == "__main__":
    main()
