"""`distill run` and `distill check`: handle one job in this process."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.errors import UserError
from curation.workspace import Workspace
from distill.cli.common import (
    JOBS,
    JsonOption,
    SaidExit,
    SetOption,
    WorkspaceOption,
    fail,
    print_json,
)
from distill.cli.display import Display, display
from distill.cli.screen import note, say
from distill.cli.step_lines import ended_line, show_progress
from distill.process import on_stop

if TYPE_CHECKING:
    from distill.launcher import RankFailed
    from distill.pipeline.fit import Fit
    from distill.pipeline.record import Observer, RunRecord, StepEvent
    from distill.spec import JobSpec
    from distill.spec_text import SpecFile

SpecArgument = Annotated[Path, typer.Argument(help="The job spec, such as jobs/sample.toml.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(rich_help_panel=JOBS)(run)
    app.command(rich_help_panel=JOBS)(check)


def check(
    spec: SpecArgument,
    overrides: SetOption = None,
    cost: Annotated[
        bool,
        typer.Option(
            "--estimate",
            help="Run a few steps of each kind, for about a minute, to estimate time, memory and "
            "disk space.",
        ),
    ] = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Check a job spec without running it: report settings that cannot work or have no effect.

    A teacher that a queued or running job will make is checked when the job starts.

    Example: distill check jobs/sample.toml --set train.learning_rate=0.05

    Example: distill check jobs/mine.toml --estimate
    """
    from distill.cli.estimating import estimated
    from distill.cli.submission import checked
    from distill.daemon import client
    from distill.daemon.names import teachers_in
    from distill.pipeline.fit import check_job
    from distill.software import code_on_disk
    from distill.spec_text import SpecFile

    given, place = SpecFile.read(spec, overrides or ()), Workspace.locate(workspace)
    coming = client.unfinished(place, teachers_in(given.text)) - {given.job.name}
    fit = check_job(given, place, coming)
    found = checked(given, fit, code_on_disk(), place)
    result = {"name": given.job.name, **found.model_dump(mode="json")}
    if not json:
        for warning in found.warnings:
            note(f"warning: {warning}")
        say(f"{spec}: job {given.job.name!r} can be run")
    if cost:
        result["estimate"] = estimated(given, place, fit, as_json=json)
    if json:
        print_json(result)


def run(spec: SpecArgument, overrides: SetOption = None, workspace: WorkspaceOption = None) -> None:
    """Run a job here, without the daemon. Run the same command again to continue it.

    Under torchrun or another launcher, every rank runs this command. Without a launcher, a job of
    several ranks starts them itself.

    Example: distill run jobs/sample.toml

    Example: torchrun --nproc-per-node 8 -m distill run jobs/r100.toml
    """
    from distill.launcher import RankFailed, die_with_launcher, launched_ranks, run_on_ranks
    from distill.pipeline.fit import ranks_of
    from distill.spec_text import SpecFile

    place = Workspace.locate(workspace)
    given = SpecFile.read(spec, overrides or ())
    folder = place.runs / given.job.name
    if launched_ranks() is not None:
        die_with_launcher()
        from distill.training.distributed import process_group

        with process_group():
            if status := _run_rank(given, folder, place):
                raise SystemExit(status)
        return
    with given.placed():
        ranks = ranks_of(given.job)
    if ranks == 1:
        raise SystemExit(_run_rank(given, folder, place))
    try:
        settings = [part for each in overrides or () for part in ("--set", each)]
        arguments = ["run", str(spec), *settings, "--workspace", str(place.root)]
        raise SaidExit(run_on_ranks(ranks, arguments, folder))
    except RankFailed as failed:
        _print_failed_rank(folder, failed)


def _print_failed_rank(folder: Path, failed: "RankFailed") -> None:
    """Print the failed rank's own error, if any; exits with the status of the job."""
    from distill.run_directory import read_failure

    if failed.status > 0 and (failure := read_failure(folder)):
        fail(failure.reason, failed.exit_status)
    _print_failure(folder, failed)
    fail(str(failed), failed.exit_status)


def _run_rank(spec: "SpecFile", folder: Path, place: Workspace) -> int:
    """Run the job in this process as one of its ranks; returns the exit status.

    128 + N if signal N stopped it after a checkpoint, or ended one of its processes. ``STEP_BUSY``
    if another job is running one of its steps and the daemon started this one: the daemon has
    other jobs to start. Otherwise it waits. The daemon's runner already holds the run directory.
    """
    from distill.daemon.runfolder import freeze_provenance, freeze_spec, locked
    from distill.process import lasting_imports
    from distill.run_directory import SPEC
    from distill.software import code_on_disk

    with lasting_imports():
        import distill.pipeline.job  # noqa: F401
        from distill.pipeline.provenance import changed_since_run, provenance
        from distill.training.distributed import on_first_rank, rank

    own = Path(spec.origin).resolve() == (folder / SPEC).resolve()
    if own and not spec.overrides:
        checked = partial(_check, spec, place, folder)
        return _run_in(folder, spec.job, place, checked, patient=False)
    spec = _as_known(spec, folder)
    with ExitStack() as held:

        def take_folder() -> None:
            freeze_spec(folder, spec.text)
            held.enter_context(locked(folder))
            assert fit is not None, "the first rank has checked it"
            code = code_on_disk()
            fit.notices += changed_since_run(folder, spec, fit, code)
            origin = provenance(spec, fit, code)
            freeze_provenance(folder, origin.model_dump_json())

        try:
            on_first_rank(lambda: _refuse_another_spec(spec, folder))
            fit = _check(spec, place)  # a spec that cannot run must not claim the name
            on_first_rank(take_folder)
        except Exception:
            if rank() > 0:
                return 1  # the first rank reports it
            raise
        return _run_in(folder, spec.job, place, lambda: fit, patient=True)


def _as_known(spec: "SpecFile", folder: Path) -> "SpecFile":
    """With the text of the run folder if only comments or layout differ from it."""
    from distill.daemon.runfolder import frozen_spec
    from distill.spec_difference import is_same_spec

    known = frozen_spec(folder)
    return (
        spec if known is None or not is_same_spec(known, spec.text) else replace(spec, text=known)
    )


def _refuse_another_spec(spec: "SpecFile", folder: Path) -> None:
    from distill.daemon.runfolder import frozen_spec
    from distill.spec_difference import another_spec

    found = frozen_spec(folder)
    if found not in (None, spec.text):
        raise UserError(
            f"{spec.origin}: {another_spec(folder.name, found, spec.text)}; undo the change to "
            "continue the job, choose another name, or set the old run aside with `distill submit "
            "--replace`"
        )


def _check(spec: "SpecFile", workspace: Workspace, submitted: Path | None = None) -> "Fit | None":
    """The result of the first rank's check, which only that rank runs; all ranks raise its errors.

    For a job recorded in this run directory as ``submitted``, also reports what has changed since.
    """
    from distill.pipeline.fit import check_job
    from distill.pipeline.provenance import changed_since_submit
    from distill.training.distributed import only_on_first_rank

    def look() -> "Fit":
        fit = check_job(spec, workspace)
        if submitted is not None:
            fit.notices += changed_since_submit(submitted, spec.job, fit)
        return fit

    return only_on_first_rank(look)


def _own_fit(found: "Fit | None", spec: "JobSpec", workspace: Workspace) -> "Fit":
    """This rank's result; ranks other than the first only open the available networks."""
    from distill.pipeline.fit import Fit, given_beginning, given_teacher

    return found or Fit(
        [], given_teacher(spec, workspace), old=given_beginning(spec.student, workspace)
    )


def _run_in(
    folder: Path,
    spec: "JobSpec",
    workspace: Workspace,
    checked: Callable[[], "Fit | None"],
    patient: bool,
) -> int:
    """Run the job; its record starts with ``checked``, the result of the check."""
    from distill.fence import Displaced
    from distill.pipeline.job import JobRun
    from distill.pipeline.record import failure, is_out_of_memory
    from distill.pipeline.steps import StepBusy
    from distill.signals import RANK_LOST, STEP_BUSY, RankLost, Stopped
    from distill.training.distributed import is_lost_rank, leave_together, world_size

    with _StopOnSignal() as stop, _record(folder, stop) as record:
        try:
            fit = _own_fit(checked(), spec, workspace)
            JobRun(spec, workspace, record, fit, patient).run()
        except Stopped:
            leave_together()
            # If this process received no signal, another rank did.
            return 128 + (stop.received or signal.SIGTERM)
        except StepBusy as busy:
            record.gave_way(busy)
            leave_together()
            return STEP_BUSY
        except Displaced as displaced:
            note(f"error: {displaced}; this process ends without writing more")
            return 128 + signal.SIGTERM
        except Exception as error:
            if world_size() > 1 and is_lost_rank(error):
                lost = RankLost(f"another rank of the job has ended ({str(error).splitlines()[0]})")
                _print_failure(folder, lost)
                note(f"error: {lost}")
                return RANK_LOST
            _print_failure(folder, error)
            if is_out_of_memory(error):
                fail("; ".join(filter(None, failure(error, folder))))
            raise
    note(f"done: {folder} (see it with `distill show {spec.name}`)")
    return 0


@contextmanager
def _record(folder: Path, stop: "_StopOnSignal") -> Iterator["RunRecord"]:
    """The first rank shows the job on the terminal; the others print to their logs."""
    from distill.launcher import write_to_log
    from distill.pipeline.record import RunRecord, SilentRecord
    from distill.training.distributed import only_on_first_rank, rank, sum_over_ranks

    with ExitStack() as screen:

        def begin() -> RunRecord:
            observer = _observer(screen.enter_context(display()))
            return RunRecord(folder, observer, stop, sum_over_ranks)

        record = only_on_first_rank(begin)
        if record is None:
            write_to_log(folder, rank())
            record = SilentRecord(folder, stop=stop, sum_over_ranks=sum_over_ranks)
        yield record


def _print_failure(folder: Path, error: Exception) -> None:
    """Record the failure in the run directory, if the job has one."""
    from distill.pipeline.record import write_failure

    if folder.is_dir():
        write_failure(folder, error)


class _StopOnSignal:
    """True after SIGTERM, SIGINT or SIGHUP; a SIGINT after that ends the process at once.

    Further SIGTERMs are ignored: Slurm sends one to every process of a step, and an agent such as
    torchrun's forwards its own to the ranks.
    """

    received = 0

    def __init__(self) -> None:
        on_stop(self._on_signal)

    def __enter__(self) -> "_StopOnSignal":
        return self

    def __exit__(self, *error: object) -> None:
        # torchrun may end its ranks while the first one is still reporting the result.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def __call__(self) -> bool:
        return self.received != 0

    def _on_signal(self, number: int, frame: Any) -> None:
        self.received = number
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _observer(shown: Display) -> "Observer":
    """Reports each step's start and end, its progress and its newest losses."""
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
        elif event.kind in ("note", "wait"):
            shown.say(f"{event.step}: {event.values['note']}")
        elif event.kind == "skip":
            shown.say(f"{event.step}: skipped: {event.values['note']}")
        elif event.kind == "metrics":
            metrics.update(event.values)
        else:
            show_progress(shown, event.step, event.values, metrics)

    return observe
