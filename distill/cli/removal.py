"""The commands that free disk space: remove, clean."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer

from curation.workspace import Workspace
from distill.cli.common import (
    JOBS,
    JsonOption,
    LabelOption,
    RunsArgument,
    WorkspaceOption,
    print_json,
)
from distill.cli.display import amount
from distill.cli.screen import note, say
from distill.daemon.states import State


class EndedState(StrEnum):
    """The states whose jobs can be cleaned."""

    DONE = State.DONE
    FAILED = State.FAILED
    CANCELLED = State.CANCELLED


BundleOption = Annotated[
    bool, typer.Option("--bundles", "--bundle", help="Also remove bundles in runs/.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only list what would be removed and the space it frees.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (remove, clean):
        app.command(rich_help_panel=JOBS)(command)


def remove(
    jobs: RunsArgument,
    bundle: BundleOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Remove ended jobs, and queued ones that never ran, with the files that only they use.

    Steps that another run uses are kept. So is the bundle in runs/JOB, unless --bundles is given.
    Pulled bundles are not touched.

    Example: distill remove student-a student-b --dry-run
    """
    from distill.daemon import client

    place = Workspace.locate(workspace)
    print_removed(client.remove(place, jobs, bundles=bundle, dry=dry_run), dry_run, json)


def clean(
    older_than: Annotated[
        str,
        typer.Option(
            metavar="AGE", help="Only jobs that ended at least this long ago, such as 30d or 12h."
        ),
    ],
    state: Annotated[
        EndedState | None, typer.Option(help="Only jobs that ended in this state.")
    ] = None,
    label: LabelOption = None,
    bundles: BundleOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Remove all jobs that ended long ago, as `distill remove` does, and report the space freed.

    Bundles are kept unless --bundles is given. Steps that other runs use, and jobs that other jobs
    wait for, are always kept.

    Example: distill clean --older-than 30d --state failed --dry-run
    """
    from distill.daemon import client
    from distill.daemon.cleaning import parse_age
    from distill.daemon.placing import check_label

    age = parse_age(older_than)
    label = None if label is None else check_label(label)
    place = Workspace.locate(workspace)
    ended = None if state is None else State(state)
    removed, left = client.clean(place, age, ended, label, bundles=bundles, dry=dry_run)
    if not json:
        for name, reason in left.items():
            note(f"{name} stays: {reason}")
    print_removed(removed, dry_run, json, left)


def print_removed(
    removed: Any, dry_run: bool, json: bool, left: dict[str, str] | None = None
) -> None:
    """Print what was or would be removed; the JSON also lists what was ``left``."""
    if json:
        extra = {} if left is None else {"left": left}
        print_json({**asdict(removed), **extra, "dry_run": dry_run})
        return
    from curation.wording import counted  # imports numpy

    would = "would be " if dry_run else ""
    for name in removed.jobs:
        say(f"{name}: {would}removed")
    frees = "would free" if dry_run else "freed"
    note(f"{frees} {amount(removed.bytes, 'bytes')}, with {counted(removed.steps, 'step')}")
    if removed.bundles_kept:
        names = ", ".join(removed.bundles_kept[:5])
        more = f" and {len(removed.bundles_kept) - 5} more" if len(removed.bundles_kept) > 5 else ""
        note(f"the bundle in runs/ is kept for {names}{more}; --bundles removes it too")
