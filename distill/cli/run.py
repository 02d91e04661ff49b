"""`distill run` and `distill check`: one job in this process."""

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.errors import UserError
from curation.workspace import Workspace
from distill.cli.common import WorkspaceOption
from distill.cli.screen import note, say

if TYPE_CHECKING:
    from distill.pipeline.record import Event, Observer

SpecArgument = Annotated[Path, typer.Argument(help="The job spec, such as jobs/sample.toml.")]
LINE_INTERVAL = 10.0
"""Seconds between two lines of progress where the output is not a terminal."""


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(run)
    app.command()(check)


def check(spec: SpecArgument, workspace: WorkspaceOption = None) -> None:
    """Check a job spec without running it.

    Example: distill check jobs/sample.toml
    """
    from distill.pipeline.job import check_fit
    from distill.spec_checks import load_spec

    place = Workspace.locate(workspace)
    checked = load_spec(spec, place)
    check_fit(checked, place)
    say(f"{spec}: job {checked.name!r} can be run")


def run(spec: SpecArgument, workspace: WorkspaceOption = None) -> None:
    """Run a job here and now, without the daemon; run again, it goes on where it stopped.

    Example: distill run jobs/sample.toml
    """
    from distill.daemon.runfolder import freeze_spec, frozen_spec, locked
    from distill.spec_checks import load_spec
    from distill.spec_text import read_spec

    place = Workspace.locate(workspace)
    job = load_spec(spec, place)
    folder = place.runs / job.name
    if spec.resolve() == (folder / "spec.toml").resolve():
        _run_in(folder, spec, place)  # started by the daemon, whose runner holds the folder
        return
    text = read_spec(spec)
    if frozen_spec(folder) not in (None, text):
        raise UserError(
            f"the job {job.name!r} exists with another spec ({folder / 'spec.toml'}); choose "
            f"another name in {spec}, or set the old run aside with `distill submit --replace`"
        )
    freeze_spec(folder, text)
    with locked(folder):
        _run_in(folder, spec, place)


def _run_in(folder: Path, spec_path: Path, workspace: Workspace) -> None:
    """Run the job; exit status 128 + N where signal N stopped it after a checkpoint."""
    from distill.pipeline.job import Job, check_fit
    from distill.pipeline.record import RunRecord
    from distill.spec_checks import load_spec
    from distill.training.loop import Stopped

    stop = _StopOnSignal()
    observer = _terminal_observer() if sys.stderr.isatty() else _line_observer()
    record = RunRecord(folder, observer, stop)
    try:
        spec = load_spec(spec_path, workspace)
        check_fit(spec, workspace)
        Job(spec, workspace, record).run()
    except Stopped:
        raise SystemExit(128 + stop.received) from None
    except Exception as error:
        record.failed(error)
        raise
    note(f"done: {folder} (see it with `distill show {spec.name}`)")


class _StopOnSignal:
    """True once SIGTERM or SIGINT has come; a second one ends the process at once."""

    received = 0

    def __init__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def __call__(self) -> bool:
        return self.received != 0

    def _on_signal(self, number: int, frame: Any) -> None:
        self.received = number
        signal.signal(number, signal.SIG_DFL)


def _line_observer() -> "Observer":
    """Plain lines, for logs: each step's begin and end, and its progress now and then."""
    last = 0.0
    metrics: dict[str, Any] = {}

    def observe(event: "Event") -> None:
        nonlocal last
        if event.kind == "begin":
            note(f"{event.step} ...")
            last = time.monotonic()
            metrics.clear()
        elif event.kind == "end":
            note(f"{event.step}: {_ended(event.values)}")
        elif event.kind == "skip":
            note(f"{event.step}: skipped: {event.values['note']}")
        elif event.kind == "metrics":
            metrics.update(event.values)
        elif time.monotonic() - last >= LINE_INTERVAL:
            last = time.monotonic()
            done, total = event.values["done"], event.values["total"]
            note(f"{event.step}: {done}/{total} {_brief(metrics)}")

    return observe


def _terminal_observer() -> "Observer":
    """One rich bar a step, with the newest losses beside it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
    )
    tasks: dict[str, Any] = {}
    metrics: dict[str, Any] = {}

    def observe(event: "Event") -> None:
        if event.kind == "begin":
            bars.start()
            tasks[event.step] = bars.add_task(event.step, total=None, note="")
            metrics.clear()
        elif event.kind == "progress":
            values = event.values
            bars.update(tasks[event.step], completed=values["done"], total=values["total"])
        elif event.kind == "metrics":
            metrics.update(event.values)
            bars.update(tasks[event.step], note=_brief(metrics))
        elif event.kind == "end":
            bars.update(tasks[event.step], total=1, completed=1, note=_ended(event.values))
            bars.stop()
        elif event.kind == "skip":
            note(f"{event.step}: skipped: {event.values['note']}")

    return observe


def _ended(step: dict[str, Any]) -> str:
    note = f"; {step['note']}" if step["note"] else ""
    return f"{step['state']} in {step['seconds']} s{note}"


def _brief(metrics: dict[str, Any]) -> str:
    losses = [f"{key[5:]} {value:.3f}" for key, value in metrics.items() if key.startswith("loss_")]
    speed = (
        [f"{metrics['images_per_second']:.0f} images/s"] if "images_per_second" in metrics else []
    )
    score = [f"score {metrics['score']:.4f}"] if "score" in metrics else []
    return "  ".join([*losses, *score, *speed])
