"""What both commands share: the workspace option, JSON output, and errors in one line."""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from curation.errors import UserError

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        envvar="DISTILL_WORKSPACE",
        help="The folder everything lives in.",
        show_default="./workspace",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


INTERRUPTED = (130, 143)
"""Exit statuses after SIGINT and SIGTERM."""


def print_json(value: Any) -> None:
    """Machine text goes to stdout, whole, and nothing else does."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def run_app(app: typer.Typer) -> None:
    """Run a command; a user's mistake is one line on stderr and exit status 1."""
    # Threads that spin long while they wait make training ten times slower where another
    # program wants a core. OpenMP reads this when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        app()
    except UserError as error:
        fail(str(error))
    except SystemExit as ended:
        # Typer turns a KeyboardInterrupt into the exit status 130, and says nothing.
        if ended.code in INTERRUPTED:
            message = "interrupted; run the same command again to go on where it stopped"
            fail(message, ended.code)
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            where = error.filename or "while writing"
            fail(f"no space left on the disk ({where}); free some and run again")
        if isinstance(error, PermissionError):
            fail(f"not permitted: {error.filename or error}")
        raise


def fail(message: str, status: int = 1) -> None:
    """Print ``error: message`` and exit."""
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(status)
