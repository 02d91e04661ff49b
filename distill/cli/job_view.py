"""How jobs look in a terminal, and as plain lines where there is none. All on stderr but tables."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from curation.workspace import Workspace
from distill.cli.reports import print_table
from distill.cli.screen import note, printable, say
from distill.daemon.reports import JobReport
from distill.daemon.runfolder import read_last_metrics
from distill.daemon.states import State
from distill.daemon.watching import watch

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress_bar import ProgressBar
    from rich.text import Text

_STYLES = {
    "done": "green",
    "reused": "green",
    "running": "yellow",
    "failed": "red",
    "skipped": "dim",
}
_LINE_SECONDS = 10.0
"""Between two plain lines of the same step's progress."""
_HIDDEN_METRICS = frozenset({"step", "time", "iteration"})


class _View(Protocol):
    def show(self, job: JobReport, metrics: dict[str, Any]) -> None: ...


def print_status(jobs: list[JobReport], workspace: Workspace) -> None:
    """A table of jobs on stdout."""
    if not jobs:
        note(
            f"no jobs in the workspace {workspace.root}; submit one with "
            "`distill submit jobs/sample.toml`, or name another workspace with --workspace"
        )
        return
    rows = [[job.name, job.state, str(job.attempt or ""), *_current(job)] for job in jobs]
    print_table(["job", "state", "attempt", "step", "progress"], rows, ["attempt"])
    for job in jobs:
        if remark := _note(job):
            say(f"{job.name}: {remark}")


def follow(workspace: Workspace, name: str) -> bool:
    """Show a job until it ends; whether it is done."""
    job: JobReport | None = None
    with _terminal_view() if sys.stderr.isatty() else _plain_view() as view:
        for job in watch(workspace, name):
            view.show(job, read_last_metrics(workspace.runs / name))
    assert job is not None, "watching gives at least one report"
    note(_last_words(job, workspace))
    return job.state is State.DONE


def _last_words(job: JobReport, workspace: Workspace) -> str:
    if job.state is State.DONE:
        return (
            f"{job.name}: done; `distill show {job.name}` shows what came out, "
            f"`distill pull {job.name}` takes the bundle"
        )
    log = workspace.runs / job.name / "log.txt"
    told = "; ".join(part for part in (job.reason, job.hint) if part)
    return f"{job.name}: {job.state}: {told} (log: {log})"


@contextmanager
def _terminal_view() -> Iterator[_View]:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:

        class Terminal:
            def show(self, job: JobReport, metrics: dict[str, Any]) -> None:
                live.update(_picture(job, metrics))

        yield Terminal()


@contextmanager
def _plain_view() -> Iterator[_View]:
    yield _PlainLines()


class _PlainLines:
    """A line for every change of state, and for progress now and then."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._progress_at = 0.0

    def show(self, job: JobReport, metrics: dict[str, Any]) -> None:
        if not job.state.ended:  # the end has words of its own
            self._say("job", f"{job.name}: {job.state} {_note(job)}".rstrip())
        for step in job.steps:
            name, state = str(step.get("name")), str(step.get("state"))
            if state != "waiting":
                self._say(f"step {name}", f"  {name}: {state}{_seconds(step)}{_remark(step)}")
        self._say_progress(job, metrics)

    def _say_progress(self, job: JobReport, metrics: dict[str, Any]) -> None:
        step, share = _current(job)
        if not share or time.monotonic() - self._progress_at < _LINE_SECONDS:
            return
        self._progress_at = time.monotonic()
        self._say("progress", f"  {step}: {share} {_brief(metrics, step)}".rstrip())

    def _say(self, what: str, line: str) -> None:
        if self._said.get(what) != line:
            self._said[what] = line
            note(line)


def _picture(job: JobReport, metrics: dict[str, Any]) -> "RenderableType":
    """The job's steps, the running one with a bar and its newest metrics."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    current, share = _current(job)
    for step in job.steps:
        name, state = str(step.get("name")), str(step.get("state"))
        row: list[Any] = [Text(printable(f"  {name}")), _styled(state)]
        if name == current and state == "running":
            row += [_bar(job), share]
        else:
            row += ["", _seconds(step).strip(" ()"), Text(printable(_remark(step).strip(" ;")))]
        table.add_row(*row)
    head = Text.assemble((job.name, "bold"), " ", _styled(job.state), f"  {printable(_note(job))}")
    return Group(head, table, Text(printable(f"  {_brief(metrics, current)}")))


def _bar(job: JobReport) -> "ProgressBar":
    from rich.progress_bar import ProgressBar

    done, total = _counts(job)
    return ProgressBar(total=total or None, completed=done, width=40)


def _current(job: JobReport) -> tuple[str, str]:
    """The running step and how far it is, as ``12/40``; empty where nothing runs."""
    running = [step for step in job.steps if step.get("state") == "running"]
    if job.state is not State.RUNNING or not running:
        return "", ""
    step = str(running[0].get("name"))
    if job.progress is None or job.progress.get("step") != step:
        return step, ""
    done, total = _counts(job)
    return step, f"{done:g}/{total:g}"


def _counts(job: JobReport) -> tuple[float, float]:
    """How much of how much is done; zeros where the record does not say."""
    values = [(job.progress or {}).get(key) for key in ("done", "total")]
    done, total = (value if isinstance(value, int | float) else 0 for value in values)
    return done, total


def _note(job: JobReport) -> str:
    if job.waiting_for:
        return f"waits for {job.waiting_for}"
    if job.cancel_requested and not job.state.ended:
        return "is being cancelled"
    return job.reason or ""


def _brief(metrics: dict[str, Any], step: str) -> str:
    """The newest metrics of a step in one line."""
    if not step or metrics.get("step") != step:
        return ""
    shown = {key: value for key, value in metrics.items() if key not in _HIDDEN_METRICS}
    numbers = {key: value for key, value in shown.items() if isinstance(value, int | float)}
    return "  ".join(f"{key} {value:.4g}" for key, value in numbers.items())


def _seconds(step: dict[str, Any]) -> str:
    seconds = step.get("seconds")
    return f" ({seconds:.1f} s)" if isinstance(seconds, int | float) else ""


def _remark(step: dict[str, Any]) -> str:
    """How a choice went, or why a step was skipped."""
    note = step.get("note")
    return f"; {note}" if isinstance(note, str) else ""


def _styled(state: str) -> "Text":
    from rich.text import Text

    return Text(printable(state), _STYLES.get(state, ""))
