"""The commands that stop jobs and wait until they have stopped: cancel, pause."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from curation.errors import UserError
from curation.workspace import Workspace
from distill.cli import completion
from distill.cli.common import JOBS, ORDER, JobsArgument, JsonOption, WorkspaceOption, print_json
from distill.cli.screen import note, say


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(rich_help_panel=JOBS)(cancel)
    app.command(rich_help_panel=ORDER)(pause)


def cancel(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="Names of jobs.", autocompletion=completion.jobs),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All jobs that have not ended.")
    ] = False,
    label: Annotated[
        str | None,
        typer.Option(
            help="All jobs with this label that have not ended.", autocompletion=completion.labels
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Kill the jobs at once, without time for a checkpoint.")
    ] = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Cancel jobs and wait until they have stopped. Submit them again to continue.

    A running job receives SIGTERM and has 30 s to write a last checkpoint.

    Example: distill cancel sample

    Example: distill cancel --label sweep --force
    """
    from distill.daemon import stopping

    place = Workspace.locate(workspace)
    if [bool(jobs), everything, label is not None].count(True) != 1:
        raise UserError("name the jobs to cancel, or give --all or --label L")
    if jobs:
        ended = stopping.cancel(place, list(dict.fromkeys(jobs)), force)
    else:
        ended = stopping.cancel_all(place, label, force)
    if not ended:
        note("no job is queued or running" + (f" with the label {label!r}" if label else ""))
    _print(place, ended, json, one=jobs is not None and len(jobs) == 1)


def pause(jobs: JobsArgument, json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Pause jobs until `distill resume`, and wait until they have stopped.

    A running job receives SIGTERM and has 30 s to write a checkpoint. Its slot is then free, and it
    keeps its place in the queue; `distill resume` continues from the last checkpoint.

    Example: distill pause teacher student-a
    """
    from distill.daemon import stopping

    place = Workspace.locate(workspace)
    _print(place, stopping.pause(place, list(dict.fromkeys(jobs))), json)


def _print(place: Workspace, jobs: Sequence[Any], json: bool, one: bool = False) -> None:
    from distill.daemon import client

    if json:
        found = client.find_reports(place, [job.name for job in jobs])
        reports = [report.model_dump(mode="json") for report in found]
        print_json(reports[0] if one else reports)
        return
    for job in jobs:
        why = f": {job.reason}" if job.state == "failed" else ""
        say(f"{job.name}: {'paused' if job.held else job.state}{why}")
