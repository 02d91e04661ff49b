"""Printing a run's log, whole, its end, or as it grows."""

import sys
from collections import deque
from pathlib import Path

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon.names import check_name
from distill.daemon.runfolder import LOG, read_log
from distill.daemon.watching import watch


def print_log(workspace: Workspace, name: str, lines: int | None) -> int:
    """Print the log, or its last ``lines``; where it ends, in bytes."""
    path = _log_of(workspace, name)
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        _write(b"".join(file if lines is None else deque(file, maxlen=lines)))
        return file.tell()


def follow_log(workspace: Workspace, name: str, lines: int | None) -> None:
    """Print the log, and what comes, until the job has ended."""
    offset = print_log(workspace, name, lines)
    path = _log_of(workspace, name)
    for _ in watch(workspace, name):
        text, offset = read_log(path, offset)
        while text:
            _write(text)
            text, offset = read_log(path, offset)


def _log_of(workspace: Workspace, name: str) -> Path:
    from distill.daemon import client

    run = workspace.runs / check_name(name)
    if not run.is_dir() and all(job.name != name for job in client.jobs(workspace)):
        raise UserError(f"no job {name!r} is queued or has run; `distill status` lists the jobs")
    return run / LOG


def _write(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.flush()
