"""Shows jobs: a table of several, or one job followed to its end."""

from typing import Any

from curation.workspace import Workspace
from distill.cli.display import Display, display
from distill.cli.reports import print_table
from distill.cli.screen import note, say
from distill.cli.step_lines import ended_line, progress_words, show_progress
from distill.daemon.reports import JobReport, ReportPage
from distill.daemon.states import State
from distill.daemon.watching import watch
from distill.run_directory import read_last_metrics


def print_status(jobs: list[JobReport], workspace: Workspace, wanted: str = "") -> None:
    """Print a table of jobs, and below it a line for each job with more to report.

    ``wanted`` describes the filter, if there is one.
    """
    if not jobs and wanted:
        note(f"no job {wanted}; `distill status` shows all")
        return
    if not jobs:
        note(
            f"no jobs in the workspace {workspace.root}; submit one with "
            "`distill submit jobs/sample.toml`, or name another workspace with --workspace"
        )
        return
    columns: dict[str, list[str]] = {
        "job": [job.name for job in jobs],
        "state": [job.state for job in jobs],
        "attempt": [str(job.attempt or "") for job in jobs],
        "priority": [str(job.priority or "") for job in jobs],
        "label": [job.label for job in jobs],
        "GPU": [", ".join(map(str, job.gpus)) for job in jobs],
        "step": [_current_step(job) for job in jobs],
    }
    for name in ("priority", "label", "GPU"):  # empty in most queues
        if not any(columns[name]):
            del columns[name]
    rows = list(zip(*columns.values(), strict=True))
    print_table(list(columns), rows, ["attempt", "priority"])
    for job in jobs:
        if remark := _remark(job):
            say(f"{job.name}: {remark}")


def print_pages(page: ReportPage) -> None:
    """Print how many jobs are on other pages, and how to see them."""
    counts = [f"{count:,} {state}" for state, count in page.counts.items() if count]
    there = f"page {page.page:,} of {page.pages:,}, the newest jobs first; {', '.join(counts)}"
    more = f"; --page {page.page + 1} shows the next" if page.page < page.pages else ""
    say(f"{there}{more}")


def follow(workspace: Workspace, name: str) -> bool:
    """Show a job until it ends; returns whether it succeeded."""
    job: JobReport | None = None
    with display() as shown:
        lines = _JobLines(shown)
        for job in watch(workspace, name):
            lines.show(job, read_last_metrics(workspace.runs / name))
    assert job is not None, "watching gives at least one report"
    note(_last_words(job))
    return job.state is State.DONE


def _last_words(job: JobReport) -> str:
    if job.state is State.DONE:
        return (
            f"{job.name}: done; `distill show {job.name}` shows the results, `distill pull "
            f"{job.name}` copies the bundle"
        )
    text = "; ".join(part for part in (job.waiting_for or job.reason, job.hint) if part)
    return f"{job.name}: {job.state}: {text} (`distill show {job.name}`, `distill logs {job.name}`)"


class _JobLines:
    """Prints every change of state, and the progress of the running step."""

    def __init__(self, shown: Display) -> None:
        self._display = shown
        self._shown: dict[str, str] = {}

    def show(self, job: JobReport, metrics: dict[str, Any]) -> None:
        if not job.state.ended:  # the end is reported separately
            self._say("job", f"{job.name}: {job.state} {_waiting(job)}".rstrip())
        for step in job.steps:
            name, state = str(step.get("name")), step.get("state")
            if state == "running":
                self._say(f"step {name}", f"{name} ...")
            elif state != "waiting":
                self._say(f"step {name}", ended_line(step))
        name, progress = _current_step(job), job.progress or {}
        if name and progress.get("step") == name:
            newest = metrics if metrics.get("step") == name else {}
            show_progress(self._display, name, progress, newest)

    def _say(self, what: str, line: str) -> None:
        if self._shown.get(what) != line:
            self._shown[what] = line
            self._display.say(line)


def _current_step(job: JobReport) -> str:
    """The running step; empty if none is running."""
    running = [step for step in job.steps if step.get("state") == "running"]
    return str(running[0].get("name")) if running and job.state is State.RUNNING else ""


def _remark(job: JobReport) -> str:
    """The progress and duration of a job, what it waits for, or why it ended."""
    progress, step = job.progress or {}, _current_step(job)
    words = progress_words(progress) if step and progress.get("step") == step else []
    parts = [", ".join([step, *words])] if words else []
    more = f"see `distill show {job.name}`" if job.state is State.FAILED else ""
    return "; ".join([*parts, *filter(None, [_waiting(job), job.stalled, job.hint, more])])


def _waiting(job: JobReport) -> str:
    if job.waiting_for:
        return job.waiting_words
    if job.cancel_requested and not job.state.ended:
        return "is being cancelled"
    if job.pause_requested and not job.state.ended:
        return "is being paused" if job.held else "is stopping, and continues after that"
    return job.reason or ""
