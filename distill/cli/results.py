"""The results of a job: `show` prints them, `pull` copies the bundle."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from curation.workspace import Workspace
from distill.cli import completion
from distill.cli.bundles import PublicKeyOption
from distill.cli.common import (
    RESULTS,
    JsonOption,
    RunArgument,
    WorkspaceOption,
    print_json,
)
from distill.cli.reports import print_table
from distill.cli.screen import can_show, note, say
from distill.cli.step_lines import number
from distill.comparison import figures_of

_SPARK = 24
"""Columns of a curve"""

Table = tuple[str, list[str], list[list[str]], list[str]]
"""Title, column names, rows, and which columns are numbers"""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (show, pull):
        app.command(rich_help_panel=RESULTS)(command)


def show(job: RunArgument, json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Show the results of a job: its steps, evaluation and bundle, and where they are.

    Example: distill show sample
    """
    from distill.daemon.results import outcome_of

    outcome = outcome_of(Workspace.locate(workspace), job)
    if json:
        print_json(outcome)
        return
    _print_head(job, outcome)
    _print_origin(outcome["provenance"])
    for title, names, rows, numbers in _tables(outcome):
        say("")
        print_table(names, rows, numbers, title=title)
    for line in _reasons(outcome["evaluation"]):
        say(line)
    for warning in outcome["warnings"]:
        where = f"{warning['step']}: " if warning.get("step") else ""
        say(f"warning: {where}{warning.get('text')}")
    say("")
    say(f"run folder: {outcome['run']}")
    if outcome["bundle"] is not None:
        say(f"bundle: {outcome['bundle']['path']}")
        say(f"copy it with `distill pull {job}`")


def pull(
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB",
            help="The job's name, or its page on another machine's daemon, "
            "https://HOST:8642/jobs/NAME.",
            autocompletion=completion.jobs,
        ),
    ],
    destination: Annotated[
        Path | None,
        typer.Argument(
            metavar="DEST", help="The folder to make.", show_default="WORKSPACE/bundles/JOB"
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a different bundle at DEST.")
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="A file with the other daemon's token, daemon/web-token in its workspace.",
            show_default="$DISTILL_TOKEN",
        ),
    ] = None,
    key: PublicKeyOption = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Copy a job's bundle to a folder and check it against its checksums.

    If a download from another machine is interrupted, run the same command again to continue.

    Example: distill pull sample ./student

    Example: distill pull https://gpu1:8642/jobs/sample --token-file token
    """
    from distill.daemon.delivery import bundle_of, deliver
    from distill.daemon.remote_bundle import TOKEN, fetch, is_url, job_of

    place = Workspace.locate(workspace)
    if is_url(job):
        target = place.bundles / job_of(job) if destination is None else destination
        token = os.environ.get(TOKEN) if token_file is None else _token(token_file)
        written = fetch(job, target, token, force, note, key)
    else:
        bundle = bundle_of(place, job)
        target = place.bundles / job if destination is None else destination
        written = deliver(bundle, target, force, key=key)
    if json:
        result = {"job": job, "bundle": str(target), "written": written, "checksums": "ok"}
        print_json(result if key is None else {**result, "signature": "ok"})
        return
    already = "" if written else " already"
    signed = "" if key is None else f", and so does the signature by the owner of {key}"
    say(f"the bundle of {job!r} is in {target}{already}; its checksums match{signed}")


def _token(path: Path) -> str:
    from curation.files import read_whole

    return read_whole(path, 1 << 12).decode("ascii", "replace").strip()


def _print_head(job: str, outcome: dict[str, Any]) -> None:
    """Print the state and, if the job failed, the reason and the remedy."""
    say(f"{job}: {outcome['state']}")
    if outcome["reason"]:
        say(f"  reason: {outcome['reason']}")
    if outcome["hint"]:
        say(f"  what helps: {outcome['hint']}")
    if outcome["gpus"]:
        say(f"  GPU: {', '.join(map(str, outcome['gpus']))}")
    if outcome["state"] == "failed":
        say(f"  its log: `distill logs {job} --lines 50`")
        say(
            f"  to continue after its last finished step: `distill submit "
            f"{outcome['run']}/spec.toml`"
        )


def _print_origin(origin: dict[str, Any] | None) -> None:
    """Print a short form of the job's origin; --json has all of it."""
    from distill.provenance import Code

    if origin is None:
        return
    code = Code.model_validate(origin["code"])
    say(f"  from {origin['file']}, {origin['at']}, {code}")
    if settings := [part for each in origin["overrides"] for part in ("--set", each)]:
        say(f"  with {shlex.join(settings)}")


def _tables(outcome: dict[str, Any]) -> list[Table]:
    tables = []
    if outcome["steps"]:
        tables.append(_steps_table(outcome["steps"]))
    if (losses := _losses_table(Path(outcome["run"]))) is not None:
        tables.append(losses)
    if rows := _evaluation_rows(outcome["evaluation"]):
        tables.append(_evaluation_table(rows))
    if outcome["bundle"] is not None:
        sizes = outcome["bundle"]["files"]
        files = [[name, f"{size:,}"] for name, size in sizes.items()]
        tables.append(("bundle", ["file", "bytes"], files, ["bytes"]))
    return tables


def _losses_table(run: Path) -> Table | None:
    """The curve of each loss of each step, one per line."""
    from distill.cli.plots import BLOCKS, sparkline
    from distill.web.curves import Curves

    curves = Curves(run)
    rows = []
    for step, keys in curves.steps().items():
        for key in (key for key in keys if key.startswith("loss_")):
            values = curves.curve(step, key)[1]
            if len(values) > 1:
                ends = [f"{values[0]:.4g}", f"{values[-1]:.4g}"]
                rows.append([step, key, sparkline(values, _SPARK), *ends])
    if not rows or not can_show(BLOCKS):
        return None
    return "losses", ["step", "loss", "curve", "first", "last"], rows, ["first", "last"]


def _steps_table(steps: list[dict[str, Any]]) -> Table:
    """The steps; with peak memory and notes if any step has them."""
    columns = {
        "step": [str(step.get("name")) for step in steps],
        "state": [str(step.get("state")) for step in steps],
        "seconds": [_shown(number(step, "seconds"), ".1f") for step in steps],
        "peak MiB": [_mebibytes(step, "peak_memory_bytes") for step in steps],
        "GPU MiB": [_mebibytes(step, "peak_gpu_memory_bytes") for step in steps],
        "note": [str(step.get("note") or "") for step in steps],
    }
    names = [name for name in columns if name in ("step", "state", "seconds") or any(columns[name])]
    rows = [list(row) for row in zip(*(columns[name] for name in names), strict=True)]
    return "steps", names, rows, ["seconds", "peak MiB", "GPU MiB"]


def _mebibytes(step: dict[str, Any], key: str) -> str:
    value = number(step, key)
    return _shown(value and value / 2**20, ",.0f")


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _evaluation_rows(evaluation: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    """Network, set, figures: of every scored network, or of the job's own."""
    from distill.daemon.results import reports_of

    return [(network, name, figures_of(report)) for network, name, report in reports_of(evaluation)]


def _reasons(evaluation: dict[str, Any]) -> list[str]:
    """Why accuracy or every TAR is missing, one line per set and network."""
    from distill.daemon.results import reports_of

    lines = []
    for network, name, report in reports_of(evaluation):
        for figure, reason in _missing(report).items():
            lines.append(f"{network} has no {figure} on {name}: {reason}")
    return lines


def _missing(report: Any) -> dict[str, str]:
    """The measures for which a set is too small, by name, with the reason."""
    if not isinstance(report, dict):
        return {}
    missing = {"accuracy": report.get("reason")}
    if not figures_of(report):
        rates = report.get("tar_at_far")
        first = next(iter(rates.values()), None) if isinstance(rates, dict) else None
        missing["TAR"] = first.get("reason") if isinstance(first, dict) else None
    return {figure: reason for figure, reason in missing.items() if isinstance(reason, str)}


def _place(figure: str) -> tuple[bool, str]:
    return figure.startswith("FAR"), figure


def _evaluation_table(rows: list[tuple[str, str, dict[str, float]]]) -> Table:
    # The accuracy comes first, even if the first set has none.
    names = sorted({figure for _, _, figures in rows for figure in figures}, key=_place)
    cells = [
        [network, each, *(f"{figures[name]:.4f}" if name in figures else "" for name in names)]
        for network, each, figures in rows
    ]
    rates = ", and TAR at each FAR" if any(name.startswith("FAR") for name in names) else ""
    return f"evaluation: accuracy{rates}", ["network", "set", *names], cells, names
