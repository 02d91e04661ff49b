"""Shared by both commands: options, JSON output, and one-line errors."""

import errno
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from curation.errors import UserError
from curation.faults import requirement
from curation.images import MAX_PIXELS
from curation.printable import UNPRINTABLE
from distill.cli import completion
from distill.cli.extras import install_hint
from distill.cli.screen import can_show, note, print_traceback, write
from distill.process import leave

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        envvar="DISTILL_WORKSPACE",
        help="The workspace: the folder of all data, jobs and results.",
        show_default="./workspace",
    ),
]
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="The job's name.", autocompletion=completion.jobs)
]
JobsArgument = Annotated[
    list[str],
    typer.Argument(metavar="JOB", help="Names of jobs.", autocompletion=completion.jobs),
]
RunArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="The job's name.", autocompletion=completion.runs)
]
RunsArgument = Annotated[
    list[str],
    typer.Argument(metavar="JOB", help="Names of jobs.", autocompletion=completion.runs),
]
LabelOption = Annotated[
    str | None,
    typer.Option(help="Only jobs with this label.", autocompletion=completion.labels),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a value of the spec: train.seed=3, stage[0].epochs=2. Repeat for more.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
JOBS, ORDER, RESULTS = "Jobs", "Order of the queue", "Results"
NETWORKS, PLACE = "Networks and bundles", "Daemon and machine"
"""Panels of `distill --help`"""
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
"""Context settings of both commands, inherited by their subcommands"""

INTERRUPTED = (130, 143, 129)
"""Exit statuses after SIGINT, SIGTERM and SIGHUP."""
_RANKS = "distill.training.distributed"
"""Loaded by commands that may have used gloo"""


class SaidExit(SystemExit):
    """An exit whose reason has been printed."""


def print_json(value: Any) -> None:
    """Print the value, and nothing else, to stdout. NaN becomes null because JSON lacks it."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        print_json(json.loads(json.dumps(value), parse_constant=lambda name: None))
        return
    text = "\n".join(UNPRINTABLE.sub(_json_escape, line) for line in text.split("\n"))
    write(sys.stdout, text if can_show(text) else json.dumps(value, indent=2))


def version_printer(command: str) -> Callable[[bool], None]:
    """The callback of ``--version``."""

    def callback(wanted: bool) -> None:
        if wanted:
            from distill import __version__

            typer.echo(f"{command} {__version__}")
            raise typer.Exit

    return callback


class Commands(TyperGroup):
    """Commands that report a wrong value in our own words; Typer uses pydantic's."""

    def invoke(self, ctx: Any) -> Any:
        """Raises ``typer.BadParameter`` if an option or argument cannot have its value."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if (find := getattr(error.__cause__, "errors", None)) is not None:
                fault = find()[0]
                given = "" if fault["type"] == "value_error" else f", got {fault['input']!r:.80}"
                error.message = requirement(fault) + given
            raise


def run_app(app: typer.Typer) -> None:
    """Run a command; a ``UserError`` becomes one line on stderr and exit status 1."""
    # Child processes (a daemon, a runner, ranks) must not import modules from the current folder:
    # an `http.py` next to the user's images would run as part of them.
    os.environ["PYTHONSAFEPATH"] = "1"
    # Threads that spin while waiting make training ten times slower if another program needs a
    # core. OpenMP reads this when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # OpenCV reads this on import; larger images are refused before they reach it.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
    _open_closed_streams()
    # Characters missing in the terminal's encoding are shown as escapes.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        _run(app)
    except SystemExit as ended:
        if _RANKS in sys.modules and isinstance(ended.code, int):
            leave(ended.code)
        raise


def _run(app: typer.Typer) -> None:
    """Run a command; an error that users can mend becomes one line and a ``SystemExit``."""
    try:
        app()
    except UserError as error:
        fail(str(error))
    except ModuleNotFoundError as error:
        if (advice := install_hint(error)) is None:
            raise
        fail(advice)
    except SaidExit:
        raise
    except SystemExit as ended:
        # Typer turns a KeyboardInterrupt into exit status 130 without a message.
        if ended.code in INTERRUPTED:
            message = "interrupted; run the same command again to continue"
            fail(message, ended.code)
        raise
    except OSError as error:
        fail(_describe_os_error(error))
    except MemoryError as error:
        fail(
            f"out of memory{f': {error}' if str(error) else ''}; free some, or use a larger machine"
        )
    finally:
        sys.excepthook = print_traceback  # replaces Typer's hook


def _open_closed_streams() -> None:
    """Open the standard streams that the caller closed (`>&-`), so that no file takes their place.

    Otherwise Python has no ``sys.stdout``, and output could end up in the next file opened.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def fail(message: str, status: int = 1) -> None:
    """Print ``error: message`` and exit."""
    note(f"error: {message}")
    raise SystemExit(status)


def _describe_os_error(error: OSError) -> str:
    """The system's error and a remedy; re-raises an error that names no file."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        if error.filename is None:
            return "no space left on the disk; free some and run the same command again"
        from curation.files import disk_error

        return disk_error(Path(os.fsdecode(error.filename)), error.errno)
    if isinstance(error, PermissionError):
        return f"not permitted: {error.filename or error}"
    if error.filename is None:
        raise error
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


def _json_escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
