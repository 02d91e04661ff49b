"""The commands that say what starts and what does not: hold, release, retry, drain, undrain."""

from typing import Any

import typer

from curation.workspace import Workspace
from distill.cli.common import JobsArgument, JsonOption, WorkspaceOption, print_json
from distill.cli.screen import note, say


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (hold, release, retry, drain, undrain):
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


def retry(jobs: JobsArgument, json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Queue failed or cancelled jobs again, with the specs that they were submitted with.

    Finished steps are found, and training goes on from its last checkpoint.

    Example: distill retry student-a student-b
    """
    from distill.daemon import client

    place = Workspace.locate(workspace)
    _print_moved(place, client.retry(place, jobs), "queued again", json)


def drain(json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Let no more jobs start, also after a restart of the daemon. Those that run go on.

    Jobs can be submitted meanwhile; they start after `distill undrain`.

    Example: distill drain
    """
    from distill.daemon import client

    running = client.drain(Workspace.locate(workspace))
    if json:
        print_json({"drained": True, "running": running})
    else:
        say(f"no job starts before `distill undrain`; {len(running)} running")


def undrain(json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Let jobs start again after `distill drain`.

    Example: distill undrain
    """
    from distill.daemon import client

    client.undrain(Workspace.locate(workspace))
    if json:
        print_json({"drained": False})
    else:
        say("jobs start again")


def note_drain(place: Workspace) -> None:
    """Say on stderr where no job starts, and since when."""
    from distill.daemon import client
    from distill.daemon.reports import iso

    if (since := client.drained_since(place)) is not None:
        note(f"drained since {iso(since)}: no job starts before `distill undrain`")


def _print_moved(place: Workspace, moved: list[Any], answer: str, json: bool) -> None:
    from distill.daemon import client

    if json:
        found = [client.find_report(place, job.name) for job in moved]
        print_json([job.model_dump(mode="json") for job in found])
        return
    for job in moved:
        say(f"{job.name}: {answer}")
