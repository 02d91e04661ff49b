"""The commands that follow jobs: watch, wait, logs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from curation.workspace import Workspace
from distill.cli.common import (
    INTERRUPTED,
    JOBS,
    JobArgument,
    JobsArgument,
    JsonOption,
    RunArgument,
    SaidExit,
    WorkspaceOption,
    print_json,
)
from distill.cli.order import note_drain
from distill.cli.screen import note, say
from distill.daemon.states import State

TIMED_OUT = 124
"""Exit status, as in timeout(1), if a job is still running"""
_LONGEST_WAIT = 10**9  # seconds


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (watch, wait, logs):
        app.command(rich_help_panel=JOBS)(command)
    app.command("follow", hidden=True)(watch)


def watch(
    job: JobArgument,
    live: Annotated[
        bool, typer.Option("--live", help="Full screen: curves, log, and keys to control the job.")
    ] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Watch a job to its end: steps, progress, newest metrics. Ctrl-C leaves it running.

    The exit status is 0 if the job is done, 1 if it failed or was cancelled, and 130 if you left
    before its end. With --live, the terminal shows only this job until you press `q`; without a
    terminal of at least 60x16 characters, --live has no effect.

    Example: distill watch sample --live
    """
    from distill.cli.live import is_possible, show_live
    from distill.daemon import client
    from distill.daemon.listing import Wanted

    place = Workspace.locate(workspace)
    if live and is_possible():
        client.find_report(place, job)
        with _looking_at([job]):
            if show_live(place, Wanted(limit=1), job) is None:
                raise KeyboardInterrupt  # the job has not ended
    follow_to_end(place, [job])


def wait(
    jobs: JobsArgument,
    timeout: Annotated[
        int | None,
        typer.Option(
            min=0, max=_LONGEST_WAIT, help="Wait at most this many seconds; 0 returns at once."
        ),
    ] = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Wait until all jobs have ended, and show how each ended. Ctrl-C leaves them running.

    The exit status is 0 if all are done, 1 if one failed, was cancelled, or waits for such a job,
    124 after the timeout.

    Example: distill wait teacher student --timeout 86400 && distill pull student
    """
    from distill.daemon import client
    from distill.daemon.watching import StillGoingError, ends

    place, names = Workspace.locate(workspace), list(dict.fromkeys(jobs))
    for found in [client.find_report(place, name) for name in names]:  # fails before waiting
        if found.held:
            note(f"{found.name}: {found.waiting_for}")
    note_drain(place)
    ended, left = [], list(names)
    with _looking_at(left, "wait"):
        try:
            for job in ends(place, names, timeout):
                ended.append(job)
                left.remove(job.name)
                if not json:
                    why = job.waiting_for or job.reason
                    say(f"{job.name}: {job.state}{f': {why}' if why else ''}")
        except StillGoingError as error:
            note(f"error: {error}")
            raise SaidExit(TIMED_OUT) from None
    if json:
        print_json([job.model_dump(mode="json") for job in ended])
    if any(job.state is not State.DONE for job in ended):
        raise SystemExit(1)


def logs(
    job: RunArgument,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Keep printing until the job ends.")
    ] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", min=0, help="Only the last N lines.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Print a job's log.

    Example: distill logs sample --follow --lines 20
    """
    from distill.cli.job_log import follow_log, print_log

    place = Workspace.locate(workspace)
    if follow:
        with _looking_at([job]):
            follow_log(place, job, lines)
    else:
        print_log(place, job, lines)


def follow_to_end(place: Workspace, names: Sequence[str]) -> None:
    """Show jobs one after the other until all have ended; exit status 1 unless all succeeded."""
    from distill.cli.job_view import follow
    from distill.spec_source import check_name

    done, left = [], list(names)
    with _looking_at(left):
        for name in names:
            done.append(follow(place, check_name(name)))
            left.remove(name)
    if not all(done):
        raise SystemExit(1)


@contextmanager
def _looking_at(names: list[str], command: str = "watch") -> Iterator[None]:
    """Ctrl-C stops watching, not the jobs still in ``names``; prints a note about them."""
    try:
        yield
    except KeyboardInterrupt:
        one = len(names) == 1
        if names:  # empty if the last one has just ended
            note(
                f"{', '.join(names)} {'continues' if one else 'continue'}; {command} again with "
                f"`distill {command} {' '.join(names)}`, end {'it' if one else 'one'} with "
                f"`distill cancel {names[0]}`"
            )
        raise SaidExit(INTERRUPTED[0]) from None
