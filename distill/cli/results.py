"""What came out of a job: `show` it, `pull` its bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.errors import UserError
from curation.workspace import Workspace
from distill.cli.common import JsonOption, WorkspaceOption, print_json

if TYPE_CHECKING:
    from rich.table import Table

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's name.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (show, pull):
        app.command()(command)


def show(job: JobArgument, json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Show what came out of a job: its steps, the evaluation, the bundle, and where it lies.

    Example: distill show sample
    """
    outcome = _outcome(Workspace.locate(workspace), job)
    if json:
        print_json(outcome)
        return
    from rich.console import Console

    console = Console()
    console.print(f"[bold]{job}[/bold]: {outcome['state']}", highlight=False)
    for table in _tables(outcome):
        console.print(table)
    typer.echo(f"run folder: {outcome['run']}")
    if outcome["bundle"] is not None:
        typer.echo(f"bundle: {outcome['bundle']['path']} (copy it with `distill pull {job}`)")


def pull(
    job: JobArgument,
    destination: Annotated[
        Path | None,
        typer.Argument(metavar="[DEST]", help="Where to.", show_default="WORKSPACE/bundles/JOB"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another bundle at DEST.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Copy a job's bundle, checked against its checksums, to where it is wanted.

    Example: distill pull sample ./student
    """
    from distill.daemon.delivery import bundle_of, deliver

    place = Workspace.locate(workspace)
    bundle = bundle_of(place, job)
    target = place.bundles / job if destination is None else destination
    if deliver(bundle, target, force):
        typer.echo(f"the bundle of {job!r} is in {target}, its checksums are right")
    else:
        typer.echo(f"the bundle of {job!r} is in {target} already, its checksums are right")


def _outcome(place: Workspace, name: str) -> dict[str, Any]:
    """Everything `show` knows, from the queue and the run folder."""
    from distill.daemon import client
    from distill.daemon.names import check_name
    from distill.daemon.runfolder import read_json, read_records

    run = place.runs / check_name(name)
    job = next((job for job in client.jobs(place) if job.name == name), None)
    if job is None and not run.is_dir():
        raise UserError(f"no job {name!r} is queued or has run; `distill status` lists the jobs")
    return {
        "name": name,
        # A run started by hand was never queued.
        "state": job.state if job else "run by hand",
        "reason": job.reason if job else None,
        "run": str(run),
        "steps": read_records(run / "steps.json"),
        "evaluation": read_json(run / "evaluation.json"),
        "bundle": _bundle(place, name),
    }


def _bundle(place: Workspace, name: str) -> dict[str, Any] | None:
    """Where the bundle lies, and its files with their sizes in bytes."""
    from distill.daemon.delivery import bundle_of

    try:
        path = bundle_of(place, name)
    except UserError:
        return None
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    sizes = {str(file.relative_to(path)): file.stat().st_size for file in files}
    return {"path": str(path), "files": sizes}


def _tables(outcome: dict[str, Any]) -> "list[Table]":
    tables = []
    if outcome["steps"]:
        tables.append(_steps_table(outcome["steps"]))
    if rows := _evaluation_rows(outcome["evaluation"]):
        tables.append(_evaluation_table(rows))
    if outcome["bundle"] is not None:
        tables.append(_files_table(outcome["bundle"]["files"]))
    return tables


def _steps_table(steps: list[dict[str, Any]]) -> "Table":
    from rich.table import Table

    table = Table("step", "state", "seconds", title="steps", title_justify="left")
    table.columns[2].justify = "right"
    noted = any(step.get("note") for step in steps)
    if noted:
        table.add_column("note", overflow="fold")
    for step in steps:
        seconds = step.get("seconds")
        shown = f"{seconds:.1f}" if isinstance(seconds, int | float) else ""
        note = [str(step.get("note") or "")] if noted else []
        table.add_row(str(step.get("name")), str(step.get("state")), shown, *note)
    return table


def _evaluation_rows(evaluation: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    """Network, set, figures: for every network that was scored, else for the job's own."""
    networks = evaluation.get("networks")
    if not isinstance(networks, dict) or not networks:
        networks = {"student": evaluation}
    rows = []
    for network, scored in networks.items():
        sets = scored.get("sets") if isinstance(scored, dict) else None
        for name, report in (sets if isinstance(sets, dict) else {}).items():
            rows.append((str(network), str(name), _figures(report)))
    return rows


def _figures(report: Any) -> dict[str, float]:
    """Accuracy and its deviation, and TAR at each FAR; thresholds and counts are in --json."""
    if not isinstance(report, dict):
        return {}
    shown = (key for key in ("accuracy", "std") if isinstance(report.get(key), float))
    figures = {key: report[key] for key in shown}
    rates = report.get("tar_at_far")
    for rate, measured in (rates if isinstance(rates, dict) else {}).items():
        tar = measured.get("tar") if isinstance(measured, dict) else None
        if isinstance(tar, float):
            figures[f"TAR at FAR {rate}"] = tar
    return figures


def _evaluation_table(rows: list[tuple[str, str, dict[str, float]]]) -> "Table":
    from rich.table import Table

    table = Table("network", "set", title="evaluation", title_justify="left")
    names = list(dict.fromkeys(figure for _, _, figures in rows for figure in figures))
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for network, each, figures in rows:
        values = (f"{figures[name]:.4f}" if name in figures else "" for name in names)
        table.add_row(network, each, *values)
    return table


def _files_table(sizes: dict[str, int]) -> "Table":
    from rich.table import Table

    table = Table("file", "bytes", title="bundle", title_justify="left")
    table.columns[1].justify = "right"
    for name, size in sizes.items():
        table.add_row(name, f"{size:,}")
    return table
