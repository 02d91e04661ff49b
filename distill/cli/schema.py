"""The command `schema`, for completion and validation of job specs in editors."""

import sys
from importlib.resources import files

import typer

from distill.cli.common import JOBS
from distill.cli.screen import write


def register(app: typer.Typer) -> None:
    """Add the command to ``distill``."""
    app.command(rich_help_panel=JOBS)(schema)


def schema() -> None:
    """Print the JSON Schema of job specs, for completion in an editor.

    Editor extensions such as Even Better TOML use it if the first line of a spec is "#:schema "
    "spec.schema.json", where the path is relative to the spec.

    Example: distill schema > jobs/spec.schema.json
    """
    text = files("distill").joinpath("spec.schema.json").read_text(encoding="utf-8")
    write(sys.stdout, text.removesuffix("\n"))
