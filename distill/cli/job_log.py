"""Prints a run's log: whole, its last lines, or as it grows."""

import os
import sys
from collections import deque
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path

from curation.workspace import Workspace
from distill.cli.screen import printable_log, write
from distill.daemon.refusals import unknown_job
from distill.daemon.watching import watch
from distill.run_directory import LOG, open_log, read_log
from distill.spec_source import check_name

LONGEST_LINE = 1 << 20
"""Bytes; a longer line is printed in pieces"""
LONGEST_END = 1 << 13
"""Bytes of each of the last lines"""


def print_log(workspace: Workspace, name: str, lines: int | None) -> int:
    """Print the log, or its last ``lines``; returns the byte position of its end."""
    path = _log_of(workspace, name)
    if not os.path.lexists(path):
        return 0
    with open_log(path) as file:
        if lines is not None:
            file.seek(_start_of_last(file, lines))
        pieces = iter(lambda: file.readline(LONGEST_LINE), b"")
        for line in pieces if lines is None else _last(pieces, lines):
            _write(line)
        return file.tell()


def _start_of_last(file: BufferedReader, lines: int) -> int:
    """Where the last ``lines`` begin; only the end of the file is read to find it."""
    at, ends = file.seek(0, os.SEEK_END), 0
    while at:
        size = min(at, LONGEST_LINE)
        at -= size
        file.seek(at)
        piece = file.read(size)
        ends += piece.count(b"\n")
        if ends > lines:  # the end of the last line is one of them
            rest = piece.split(b"\n", ends - lines)[-1]
            return at + len(piece) - len(rest)
    return 0


def _last(pieces: Iterable[bytes], lines: int) -> Iterable[bytes]:
    """The last lines; of a very long one its end, where a progress bar has its last state."""
    kept, line, size = deque[bytes](maxlen=lines), b"", 0
    for piece in pieces:
        line, size = (line + piece)[-LONGEST_END:], size + len(piece)
        if piece.endswith(b"\n"):
            kept.append(_end(line, size))
            line, size = b"", 0
    if size:
        kept.append(_end(line, size))
    return kept


def _end(line: bytes, size: int) -> bytes:
    before = size - len(line)
    return f"({before:,} bytes before this) ... ".encode() + line if before else line


def follow_log(workspace: Workspace, name: str, lines: int | None) -> None:
    """Print the log as it grows until the job has ended."""
    offset = print_log(workspace, name, lines)
    path = _log_of(workspace, name)
    begun = b""  # an incomplete line
    for _ in watch(workspace, name):
        text, offset = read_log(path, offset)
        while text:
            *whole, begun = (begun + text).split(b"\n")
            if len(begun) > LONGEST_LINE:
                whole, begun = [*whole, begun], b""
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
