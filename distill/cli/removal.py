"""The commands that free the disk: remove."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from curation.workspace import Workspace
from distill.cli.common import JobsArgument, JsonOption, WorkspaceOption, print_json
from distill.cli.display import amount
from distill.cli.screen import note, say

BundleOption = Annotated[bool, typer.Option("--bundle", help="Remove bundles in runs/ too.")]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would go, and what that frees.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(remove)


def remove(
    jobs: JobsArgument,
    bundle: BundleOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Take ended jobs, and queued ones that never ran, away with what they alone left on the disk.

    A step that another run uses stays. So does a bundle, in runs/JOB, unless --bundle is given;
    bundles that were pulled are not touched.

    Example: distill remove student-a student-b --dry-run
    """
    from distill.daemon import client

    place = Workspace.locate(workspace)
    print_removed(client.remove(place, jobs, bundles=bundle, dry=dry_run), dry_run, json)


def print_removed(removed: Any, dry_run: bool, json: bool) -> None:
    """What went, or would go: a ``distill.daemon.removal.Removed``."""
    if json:
        print_json({**asdict(removed), "dry_run": dry_run})
        return
    would = "would be " if dry_run else ""
    for name in removed.jobs:
        say(f"{name}: {would}removed")
    frees = "would free" if dry_run else "freed"
    note(f"{frees} {amount(removed.bytes, 'bytes')}, with {_counted(removed.steps, 'step')}")
    if removed.bundles_kept:
        names = ", ".join(removed.bundles_kept[:5])
        more = f" and {len(removed.bundles_kept) - 5} more" if len(removed.bundles_kept) > 5 else ""
        note(f"the bundle stays in runs/ for {names}{more}; --bundle removes it too")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
