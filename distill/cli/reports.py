"""What a command found or made, as lines, a table, or JSON."""

import sys
from collections.abc import Sequence
from typing import Any

import typer

from distill.cli.common import print_json


def print_report(description: dict[str, Any], as_json: bool) -> None:
    """Names and values, one a line; or JSON."""
    if as_json:
        print_json(description)
        return
    lines = _lines(description)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        typer.echo(f"{name:{width}}  {value}")


def _lines(description: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values, those inside others with the outer name before their own."""
    lines: list[tuple[str, str]] = []
    for key, value in description.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            lines += _lines(value, f"{name}, ")
        elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
            for number, entry in enumerate(value, 1):
                lines += _lines(entry, f"{name} {number}, ")
        else:
            lines.append((name, shown(value)))
    return lines


def shown(value: Any) -> str:
    """A value for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def print_table(columns: list[str], rows: Sequence[tuple[str, ...]]) -> None:
    """A table as wide as the terminal; paths are not wrapped."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(name, no_wrap=name == "path") for name in columns), box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    # A file has no edge to wrap at.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
