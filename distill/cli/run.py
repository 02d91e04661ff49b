"""`distill run` and `distill check`: one job in this process."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.errors import UserError
from curation.workspace import Workspace
from distill.cli.common import JsonOption, WorkspaceOption, fail, print_json
from distill.cli.display import Display, display
from distill.cli.screen import note, say
from distill.cli.step_lines import ended_line, show_progress

if TYPE_CHECKING:
    from distill.pipeline.fit import Fit
    from distill.pipeline.record import Observer, StepEvent
    from distill.spec import JobSpec

SpecArgument = Annotated[Path, typer.Argument(help="The job spec, such as jobs/sample.toml.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(run)
    app.command()(check)


def check(spec: SpecArgument, json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Check a job spec without running it: what cannot work, and what will do nothing.

    Example: distill check jobs/sample.toml
    """
    from distill.pipeline.fit import check_job
    from distill.spec_text import SpecFile

    checked = SpecFile.read(spec)
    fit = check_job(checked, Workspace.locate(workspace))
    warnings = [notice.text for notice in fit.notices]
    if json:
        print_json({"name": checked.job.name, "warnings": warnings})
        return
    for warning in warnings:
        note(f"warning: {warning}")
    say(f"{spec}: job {checked.job.name!r} can be run")


def run(spec: SpecArgument, workspace: WorkspaceOption = None) -> None:
    """Run a job here and now, without the daemon; run again, it goes on where it stopped.

    Example: distill run jobs/sample.toml
    """
    from distill.daemon.runfolder import freeze_spec, frozen_spec, locked
    from distill.pipeline.fit import check_job
    from distill.spec_text import SpecFile

    place = Workspace.locate(workspace)
    given = SpecFile.read(spec)
    job = given.job
    folder = place.runs / job.name
    if spec.resolve() == (folder / "spec.toml").resolve():
        # Started by the daemon, whose runner holds the folder, and who has other jobs to start.
        _run_in(folder, job, place, lambda: check_job(given, place), patient=False)
        return
    if frozen_spec(folder) not in (None, given.text):
        raise UserError(
            f"the job {job.name!r} exists with another spec ({folder / 'spec.toml'}); choose "
            f"another name in {spec}, or set the old run aside with `distill submit --replace`"
        )
    fit = check_job(given, place)  # a spec that cannot be run does not take the name
    freeze_spec(folder, given.text)
    with locked(folder):
        _run_in(folder, job, place, lambda: fit, patient=True)


def _run_in(
    folder: Path,
    spec: "JobSpec",
    workspace: Workspace,
    checked: Callable[[], "Fit"],
    patient: bool,
) -> None:
    """Run the job, on record from ``checked`` on, which says that it can be run.

    Exit status 128 + N where signal N stopped it after a checkpoint, or one of its processes was
    ended by it; ``STEP_BUSY`` where it is not ``patient`` and another job does a step of it.
    """
    from distill.daemon.outcome import STEP_BUSY
    from distill.pipeline.job import JobRun
    from distill.pipeline.record import RunRecord
    from distill.pipeline.steps import StepBusy
    from distill.signals import Stopped
    from distill.training.launch import EndedFromOutside

    stop = _StopOnSignal()
    with display() as shown:
        record = RunRecord(folder, _observer(shown), stop)
        try:
            JobRun(spec, workspace, record, checked(), patient).run()
        except Stopped:
            # Where nobody asked this process, a rank was asked.
            raise SystemExit(128 + (stop.received or signal.SIGTERM)) from None
        except StepBusy as busy:
            record.gave_way(busy)
            raise SystemExit(STEP_BUSY) from None
        except EndedFromOutside as ended:
            record.failed(ended)
            fail(str(ended), 128 + ended.signal)
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


def _observer(shown: Display) -> "Observer":
    """Each step's begin and end, its progress and newest losses."""
    metrics: dict[str, Any] = {}

    def observe(event: "StepEvent") -> None:
        if event.kind == "begin":
            metrics.clear()
            shown.say(f"{event.step} ...")
            shown.begin()
        elif event.kind == "end":
            shown.say(ended_line(event.values))
        elif event.kind == "warning":
            where = f"{event.step}: " if event.step else ""
            shown.say(f"warning: {where}{event.values['text']}")
        elif event.kind == "wait":
            shown.say(f"{event.step}: {event.values['note']}")
        elif event.kind == "skip":
            shown.say(f"{event.step}: skipped: {event.values['note']}")
        elif event.kind == "metrics":
            metrics.update(event.values)
        else:
            show_progress(shown, event.step, event.values, metrics)

    return observe
