"""`distill doctor`: finds problems of this machine and workspace that would make jobs fail."""

from dataclasses import asdict

import typer

from curation.workspace import Workspace
from distill.cli.common import PLACE, JsonOption, WorkspaceOption, print_json
from distill.cli.reports import print_table
from distill.cli.screen import note, say

_COLOURS = {"ok": "\x1b[32m", "warning": "\x1b[33m", "wrong": "\x1b[31m"}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(rich_help_panel=PLACE)(doctor)


def doctor(json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Check this machine and the workspace: GPUs, packages, disk, network, Slurm, clock.

    Each problem is shown with the command to run next. The exit status is 1 if jobs would fail.

    Example: distill doctor
    """
    from distill.doctor.examination import Verdict, examine

    found = list(examine(Workspace.locate(workspace)))
    if json:
        print_json([{"check": name, **asdict(finding)} for name, finding in found])
    else:
        rows = [[each.verdict, name, each.text] for name, each in found]
        print_table(["", "check", "found"], rows, colours=_COLOURS)
        advice = [(name, each) for name, each in found if each.next]
        if advice:
            say("")
        for name, each in advice:
            say(f"{name}: {each.next}")
    wrong = sum(each.verdict is Verdict.WRONG for _, each in found)
    if wrong:
        note(f"{wrong} of {len(found)} checks failed: jobs would fail")
        raise SystemExit(1)
