"""The commands of the job queue: serve, stop, submit, status."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.errors import UserError
from curation.workspace import Workspace
from distill.cli import (
    browsing,
    comparing,
    completion,
    ending,
    following,
    order,
    past,
    removal,
    results,
)
from distill.cli.common import (
    INTERRUPTED,
    JOBS,
    PLACE,
    JsonOption,
    LabelOption,
    SaidExit,
    SetOption,
    WorkspaceOption,
    print_json,
)
from distill.cli.reports import print_table
from distill.cli.screen import note, say
from distill.daemon.listing import LIMIT, MOST, Wanted
from distill.daemon.states import State

if TYPE_CHECKING:
    from distill.daemon.notifications import Notify
    from distill.daemon.reports import JobReport
    from distill.daemon.server import Pages
    from distill.daemon.submitting import Submission
    from distill.web.settings import WebSettings

_START_HINT = "no daemon is running: start one with `distill serve --background`"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (submit, status):
        app.command(rich_help_panel=JOBS)(command)
    ending.register(app)
    following.register(app)
    order.register(app)
    past.register(app)
    removal.register(app)
    results.register(app)
    comparing.register(app)
    app.command(rich_help_panel=PLACE)(serve)
    app.command(rich_help_panel=PLACE)(stop)
    browsing.register(app)


def serve(
    slots: Annotated[int, typer.Option(min=1, help="How many jobs run at the same time.")] = 1,
    background: Annotated[
        bool,
        typer.Option("--background", help="Run in the background: return once the daemon answers."),
    ] = False,
    executor: Annotated[str, typer.Option(help="Where the jobs run.")] = "local",
    notify_command: Annotated[
        str | None,
        typer.Option(help="A program to run whenever a job ends; it gets JSON on standard input."),
    ] = None,
    notify_webhook: Annotated[
        str | None, typer.Option(help="An address to which JSON is POSTed whenever a job ends.")
    ] = None,
    web: Annotated[bool, typer.Option("--web", help="Also serve pages for a browser.")] = False,
    web_address: Annotated[
        str | None,
        typer.Option(
            help="IP and port of the pages; an address that other machines can reach needs TLS.",
            show_default="8642",
        ),
    ] = None,
    web_url: Annotated[
        str | None,
        typer.Option(help="The address that browsers use, if the pages are behind a proxy."),
    ] = None,
    web_cert: Annotated[
        Path | None, typer.Option(help="A PEM file with certificate and key, for TLS.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Run the daemon: it starts queued jobs and serves the API on the workspace's socket.

    Ctrl-C, `distill stop` and even kill -9 end only the daemon: running jobs continue, and the
    next daemon takes them over. With --web, `distill open` shows the jobs in a browser.

    Example: distill serve --background --web
    """
    from distill.daemon.notifications import Notify
    from distill.daemon.opening import lost_queue
    from distill.web.settings import web_settings

    place = Workspace.locate(workspace)
    notify = Notify(notify_command, notify_webhook)
    if (lost := lost_queue(place)) is not None:
        note(f"warning: starting a new queue: {lost}")
    options = {"address": web_address, "url": web_url, "cert": web_cert}
    given = [f"--web-{name}={value}" for name, value in options.items() if value is not None]
    if given and not web:
        raise UserError(f"{given[0]} needs --web")
    settings = web_settings(web_address, web_url, web_cert) if web else None
    if background:
        _serve_in_background(place, slots, executor, notify, ["--web", *given] if web else [])
        return
    from distill.daemon.daemon_lock import LOG
    from distill.daemon.server import log_to_stderr
    from distill.daemon.server import serve as serve_here

    log_to_stderr(place.daemon / LOG)
    serve_here(place, slots=slots, executor=executor, notify=notify, pages=_pages(settings))


def _pages(settings: "WebSettings | None") -> "Pages":
    if settings is None:
        from distill.daemon.server import no_pages

        return no_pages
    from distill.web.serving import pages

    return pages(settings)


def stop(workspace: WorkspaceOption = None) -> None:
    """Stop the daemon. Running jobs continue; `distill cancel JOB` ends a job.

    Example: distill stop
    """
    from distill.daemon import daemon_lock

    stopped = daemon_lock.stop(Workspace.locate(workspace))
    if stopped is None:
        say("no daemon is running")
    else:
        say(f"the daemon (pid {stopped.process.pid}) has stopped; running jobs continue")


def submit(
    specs: Annotated[
        list[Path], typer.Argument(metavar="SPEC", help="Job specs, such as jobs/sample.toml.")
    ],
    overrides: SetOption = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Watch the jobs until they end.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Set aside an older job of this name and its folder."),
    ] = False,
    priority: Annotated[
        int | None,
        typer.Option(help="-1000 to 1000; higher starts first.", show_default="0"),
    ] = None,
    hold: Annotated[
        bool, typer.Option("--hold", help="Hold the job until `distill resume`.")
    ] = False,
    label: Annotated[
        str | None,
        typer.Option(
            help="A label that several jobs may share; see `status --label`.",
            autocompletion=completion.labels,
        ),
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(
            metavar="JOB",
            help="Start the job after this one is done; repeat for more.",
            autocompletion=completion.jobs,
        ),
    ] = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Queue jobs, all of them or none. Submit a spec again to continue an unfinished job.

    A job whose teacher is another job starts after that job. For a job that already waits, this
    changes priority, label, hold and after; --after "" removes earlier ones.

    Example: distill submit jobs/student.toml --after teacher --priority 10 --label sweep

    Example: distill submit jobs/sample.toml --set name=seed-3 --set train.seed=3

    Example: distill submit jobs/teacher.toml jobs/student.toml --follow
    """
    from distill.daemon.check_places import one_of_two
    from distill.daemon.placing import Placing, names_after

    place = Workspace.locate(workspace)
    placing = Placing(priority=priority, hold=hold, label=label, after=names_after(after))
    with one_of_two(place):  # waiting processes have not loaded the modules of a check yet
        from distill.cli.submission import submit_files

        made = submit_files(place, specs, overrides or (), replace, placing)

    from distill.daemon import client, daemon_lock

    names = [each.job.name for each in made]
    jobs = client.find_reports(place, names)
    if json:
        submitted = [
            {"answer": each.answer, "job": job.model_dump(mode="json"), "warnings": each.warnings}
            for each, job in zip(made, jobs, strict=True)
        ]
        print_json(submitted if len(specs) > 1 else submitted[0])
    else:
        _print_submitted(made, jobs)
    if not all(job.state.ended for job in jobs):
        if daemon_lock.find(place) is None:
            note(_START_HINT)
        order.note_drain(place)
    if follow:
        following.follow_to_end(place, names)


def _print_submitted(made: "Sequence[Submission]", jobs: "Sequence[JobReport]") -> None:
    """One job as a line, several as a table, preceded by the warnings."""
    for each, job in zip(made, jobs, strict=True):
        for warning in each.warnings:
            note(f"warning: {warning}" if len(made) == 1 else f"warning: {job.name}: {warning}")
    if len(made) == 1:
        ahead = f", after {', '.join(jobs[0].after)}" if jobs[0].after else ""
        say(f"{jobs[0].name}: {made[0].answer}{ahead}")
        return
    names = ["job", "answer", "after"] if any(job.after for job in jobs) else ["job", "answer"]
    rows = [
        [job.name, each.answer, ", ".join(job.after)][: len(names)]
        for each, job in zip(made, jobs, strict=True)
    ]
    print_table(names, rows)


def status(
    job: Annotated[
        str | None,
        typer.Argument(metavar="JOB", help="Only this job.", autocompletion=completion.jobs),
    ] = None,
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    label: LabelOption = None,
    page: Annotated[int, typer.Option(min=1, max=1 << 40, help="The page to show.")] = 1,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="Jobs per page.")] = LIMIT,
    live: Annotated[
        bool, typer.Option("--live", help="Full screen, updated live, with keys to control jobs.")
    ] = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Show the jobs: state, progress, what they wait for, or why they failed.

    Jobs are listed newest first, in pages. Running and recently failed jobs of other pages come
    first. With --live, the terminal shows the queue, the selected job with its curves, and its log,
    until you press `q`; without a terminal of at least 60x16 characters, --live has no effect.

    Example: distill status --label sweep --state failed
    """
    from distill.cli.job_view import print_pages, print_status
    from distill.daemon import client, daemon_lock
    from distill.daemon.notifications import take_failure

    place = Workspace.locate(workspace)
    wanted = _wanted(state, label)
    if job is not None and wanted:
        raise UserError("give either the name of a job, or --state and --label")
    if live and json:
        raise UserError("--live draws on the screen and --json prints once; give one of them")
    selection = Wanted(state=state, label=label, page=page, limit=limit)
    if live and _shows_live(place, job, selection):
        return
    if job is not None:
        jobs = [client.find_report(place, job)]
    else:
        found = client.page(place, selection)
        if page > found.pages:
            raise UserError(f"there is no page {page}; the last one is {found.pages}")
        jobs = found.jobs
    if json:
        listed = [each.model_dump(mode="json") for each in jobs]
        print_json(listed if job is None else listed[0])
    else:
        print_status(jobs, place, wanted)
        if job is None and found.pages > 1:
            print_pages(found)
    order.note_drain(place)
    if (failed := take_failure(place)) is not None:
        note(f"warning: {failed} (the daemon's log has more)")
    if daemon_lock.find(place) is None and any(not each.state.ended for each in jobs):
        note(_START_HINT)


def _shows_live(place: Workspace, job: str | None, wanted: Wanted) -> bool:
    """Show the live view; returns whether the terminal allows it."""
    from distill.cli.live import is_possible, show_live
    from distill.daemon import client

    if not is_possible():
        return False
    if job is not None:
        client.find_report(place, job)
    try:
        show_live(place, wanted, job)
    except KeyboardInterrupt:
        raise SaidExit(INTERRUPTED[0]) from None
    return True


def _wanted(state: State | None, label: str | None) -> str:
    """The filter in words; empty for all jobs."""
    from distill.daemon.placing import check_label

    in_state = [] if state is None else [f"is {state}"]
    with_label = [] if label is None else [f"has the label {check_label(label)!r}"]
    return " and ".join([*in_state, *with_label])


def _serve_in_background(
    place: Workspace, slots: int, executor: str, notify: "Notify", web: Sequence[str]
) -> None:
    from distill.daemon import background, daemon_lock
    from distill.web.address import find_pages

    running = daemon_lock.find(place)
    if running is None:
        health: dict[str, Any] = background.start(place, slots, executor, notify, web)
        log = place.daemon / daemon_lock.LOG
        say(f"the daemon (pid {health['pid']}) serves {place.root}; its log is {log}")
        order.note_drain(place)
    else:
        pid = running.process.pid
        say(f"a daemon (pid {pid}, slots {running.slots}) already serves {place.root}")
    if web:
        say(f"pages at {find_pages(place).url}; `distill open` opens them")
