"""Prints a run's log: whole, its last lines, or as it grows."""

import sys
from collections import deque
from pathlib import Path

from curation.workspace import Workspace
from distill.cli.screen import printable_log, write
from distill.daemon.refusals import unknown_job
from distill.daemon.watching import watch
from distill.run_directory import LOG, read_log
from distill.spec_source import check_name

LONGEST_LINE = 1 << 20
"""Bytes; a longer line is printed in pieces"""


def print_log(workspace: Workspace, name: str, lines: int | None) -> int:
    """Print the log, or its last ``lines``; returns the byte position of its end."""
    path = _log_of(workspace, name)
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        pieces = iter(lambda: file.readline(LONGEST_LINE), b"")
        for line in pieces if lines is None else deque(pieces, maxlen=lines):
            _write(line)
        return file.tell()


def follow_log(workspace: Workspace, name: str, lines: int | None) -> None:
    """Print the log as it grows until the job has ended."""
    offset = print_log(workspace, name, lines)
    path = _log_of(workspace, name)
    begun = b""  # an incomplete line
    for _ in watch(workspace, name):
        text, offset = read_log(path, offset)
        while text:
            *whole, begun = (begun + text).split(b"\n")
            for line in whole:
                _write(line)
            text, offset = read_log(path, offset)
    if begun:
        _write(begun)


def _log_of(workspace: Workspace, name: str) -> Path:
    from distill.daemon import client

    run = workspace.runs / check_name(name)
    if not run.is_dir() and client.job_named(workspace, name) is None:
        raise unknown_job(name, [], workspace)
    return run / LOG


def _write(line: bytes) -> None:
    write(sys.stdout, printable_log(line))
