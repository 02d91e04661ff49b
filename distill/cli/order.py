"""The commands that say what starts and what does not: hold, release."""

from typing import Any

import typer

from curation.workspace import Workspace
from distill.cli.common import JobsArgument, JsonOption, WorkspaceOption, print_json
from distill.cli.screen import say


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (hold, release):
        app.command()(command)


def hold(jobs: JobsArgument, json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Keep queued jobs from starting, until `distill release`. Running ones are not touched.

    Example: distill hold teacher student-a
    """
    from distill.daemon import client

    place = Workspace.locate(workspace)
    _print_moved(place, client.hold(place, jobs), "held", json)


def release(
    jobs: JobsArgument, json: JsonOption = False, workspace: WorkspaceOption = None
) -> None:
    """Let held jobs start when it is their turn.

    Example: distill release teacher
    """
    from distill.daemon import client

    place = Workspace.locate(workspace)
    _print_moved(place, client.release(place, jobs), "queued", json)


def _print_moved(place: Workspace, moved: list[Any], answer: str, json: bool) -> None:
    from distill.daemon import client

    if json:
        found = [client.find_report(place, job.name) for job in moved]
        print_json([job.model_dump(mode="json") for job in found])
        return
    for job in moved:
        say(f"{job.name}: {answer}")
