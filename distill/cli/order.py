"""The commands that control what starts and when: resume, move, retry, drain, undrain."""

from typing import Annotated, Any

import typer

from curation.errors import UserError
from curation.workspace import Workspace
from distill.cli import completion
from distill.cli.common import (
    JOBS,
    ORDER,
    JobArgument,
    JobsArgument,
    JsonOption,
    WorkspaceOption,
    print_json,
)
from distill.cli.screen import note, say


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (resume, move, drain, undrain):
        app.command(rich_help_panel=ORDER)(command)
    app.command(rich_help_panel=JOBS)(retry)


def resume(jobs: JobsArgument, json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Let paused jobs continue from their last checkpoints when their turn comes.

    Example: distill resume teacher
    """
    from distill.daemon import client

    place = Workspace.locate(workspace)
    _print_moved(place, client.resume(place, jobs), None, json)


def move(
    job: JobArgument,
    first: Annotated[bool, typer.Option("--first", help="Before all other jobs.")] = False,
    last: Annotated[bool, typer.Option("--last", help="After all other jobs.")] = False,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="OTHER",
            help="Immediately before this queued job.",
            autocompletion=completion.jobs,
        ),
    ] = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Change the order in which queued jobs of one priority start.

    Example: distill move student-b --before student-a
    """
    from distill.daemon import client
    from distill.daemon.service import QueueEnd

    if [first, last, before is not None].count(True) != 1:
        raise UserError(f"choose where to move {job}: --first, --last, or --before OTHER")
    to = QueueEnd.FIRST if first else QueueEnd.LAST if last else None
    place = Workspace.locate(workspace)
    where = to or f"before {before}"
    _print_moved(place, [client.move(place, job, to, before)], f"moved {where}", json)


def retry(jobs: JobsArgument, json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Queue failed or cancelled jobs again with the specs they were submitted with.

    Finished steps are reused, and training continues from its last checkpoint.

    Example: distill retry student-a student-b
    """
    from distill.daemon import client

    place = Workspace.locate(workspace)
    _print_moved(place, client.retry(place, jobs), "queued again", json)


def drain(json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Stop starting jobs, even after a restart of the daemon. Running jobs continue.

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
        say("jobs can start again")


def note_drain(place: Workspace) -> None:
    """Report on stderr if the queue is drained, and since when."""
    from distill.daemon import client
    from distill.daemon.reports import iso

    if (since := client.drained_since(place)) is not None:
        note(f"drained since {iso(since)}: no job starts before `distill undrain`")


def _print_moved(place: Workspace, moved: list[Any], answer: str | None, json: bool) -> None:
    """``answer`` is the result for each job, if it is not the job's state."""
    from distill.daemon import client

    if json:
        found = client.find_reports(place, [job.name for job in moved])
        print_json([job.model_dump(mode="json") for job in found])
        return
    for job in moved:
        say(f"{job.name}: {answer or job.state}")
