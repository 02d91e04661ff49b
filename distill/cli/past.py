"""The commands that show the past: history, diff."""

import json as json_module
from typing import Annotated, Any

import typer

from curation.workspace import Workspace
from distill.cli import completion
from distill.cli.common import RESULTS, JobArgument, JsonOption, WorkspaceOption, print_json
from distill.cli.reports import print_table
from distill.cli.screen import say


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (history, diff):
        app.command(rich_help_panel=RESULTS)(command)


def history(job: JobArgument, json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Show every change of a job's state: time (UTC), event, attempt and reason.

    Example: distill history sample
    """
    from distill.daemon import client
    from distill.daemon.reports import iso

    lines = [
        {
            "at": iso(line.at),
            "attempt": line.attempt,
            "event": line.event,
            "state": line.state,
            "reason": line.reason,
        }
        for line in client.history(Workspace.locate(workspace), job)
    ]
    if json:
        print_json(lines)
        return
    rows = [["" if value is None else str(value) for value in line.values()] for line in lines]
    print_table(["at", "attempt", "event", "state", "reason"], rows, ["attempt"])


def diff(
    first: Annotated[
        str,
        typer.Argument(
            metavar="JOB",
            help="A job, or a run that was set aside.",
            autocompletion=completion.runs,
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(metavar="OTHER", help="Another job or run.", autocompletion=completion.runs),
    ],
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Show the differences of the specs of two jobs, as submitted, except for their names.

    Example: distill diff student-a student-b
    """
    from curation.toml_text import read_toml
    from distill.daemon import client
    from distill.spec_difference import differences, shown_value

    place = Workspace.locate(workspace)
    specs = {name: client.spec_of(place, name) for name in (first, second)}
    documents = {name: read_toml(text, f"the spec of {name}") for name, text in specs.items()}
    found = [
        line for line in differences(documents[first], documents[second]) if line.key != "name"
    ]
    if json:
        lines = [{"key": line.key, **_sides(line.first, line.second)} for line in found]
        print_json({"first": first, "second": second, "differences": lines})
    elif found:
        rows = [[line.key, shown_value(line.first), shown_value(line.second)] for line in found]
        print_table(["key", first, second], rows)
    else:
        say(f"the specs of {first} and {second} are equal")


def _sides(first: Any, second: Any) -> dict[str, Any]:
    """Values in JSON form; an unset one is omitted."""
    from distill.spec_difference import ABSENT

    sides = {"first": first, "second": second}
    plain = json_module.dumps(
        {side: value for side, value in sides.items() if value is not ABSENT}, default=str
    )
    return dict(json_module.loads(plain))
