"""A dataclass of options expands to its fields in a command."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from distill.cli.option_groups import grouped


@dataclass(frozen=True)
class Paint:
    colour: Annotated[str, typer.Option(help="Of the wall.")] = "white"
    coats: Annotated[int, typer.Option(min=1, help="How many.")] = 2


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(add_completion=False)

    @app.command()
    @grouped
    def paint(wall: str, dry: bool = False, *, options: Paint, label: str = "") -> None:
        """Paint a wall."""
        typer.echo(f"{wall} {dry} {options} {label!r}")

    return app


def test_the_command_receives_the_group(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["north", "--coats", "3", "--label", "x"])
    assert result.output == "north False Paint(colour='white', coats=3) 'x'\n"


def test_fields_are_options_in_their_place(app: typer.Typer) -> None:
    command = typer.main.get_command(app)
    assert [each.name for each in command.params] == ["wall", "dry", "colour", "coats", "label"]
    assert command.help == "Paint a wall."


def test_limits_of_a_field_hold(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["north", "--coats", "0"])
    assert result.exit_code == 2
    assert "--coats" in result.output
