"""The disk of the workspace: free space, speed, and whether SQLite works on it."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from curation.files import nearest_folder
from curation.workspace import Workspace
from distill.daemon.daemon_lock import network_kind
from distill.doctor.examination import Diagnosis, check, ok, warning, wrong
from distill.resources import in_megabytes

FEW_BYTES, VERY_FEW_BYTES = 20 << 30, 1 << 30
SLOW = 50e6
"""Bytes per second; a checkpoint of a ResNet-100 has 0.8 GB"""
_WRITTEN, _BLOCK = 64 << 20, 1 << 20
_WRITING_SECONDS = 5.0


@check("disk", seconds=40.0)
def disk(workspace: Workspace) -> Iterator[Diagnosis]:
    """Free space, and the speed of writing."""
    folder = nearest_folder(workspace.root)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield wrong(f"{folder} is not writable", "name another workspace with --workspace")
        return
    free = shutil.disk_usage(folder).free
    yield judge_room(folder, free)
    if free > VERY_FEW_BYTES:
        yield judge_speed(_written_per_second(folder))


@check("file system")
def file_system(workspace: Workspace) -> Iterator[Diagnosis]:
    """The file system of the queue: SQLite's WAL needs a local disk."""
    folder = nearest_folder(workspace.daemon)
    kind = network_kind(folder)
    if kind is not None:
        yield wrong(
            f"{folder} is on a network file system ({kind}), where the queue cannot be kept",
            "put the workspace on a local disk, and make its datasets/ a link to the images",
        )
    else:
        yield ok(f"{folder} is on a local disk")


def judge_room(folder: Path, free: int) -> Diagnosis:
    text = f"{in_megabytes(free)} free at {folder}"
    if free < VERY_FEW_BYTES:
        return wrong(text, "free some: `distill clean --older-than 30d --dry-run`")
    if free < FEW_BYTES:
        return warning(text, "free some: `distill clean --older-than 30d --dry-run`")
    return ok(text)


def judge_speed(per_second: float) -> Diagnosis:
    text = f"writes {in_megabytes(per_second)} a second"
    if per_second < SLOW:
        return warning(text, "checkpoints will take long: use a faster disk, or save less often")
    return ok(text)


def _written_per_second(folder: Path) -> float:
    """Speed of writing through to the disk in bytes per second, with an unnamed file."""
    block = os.urandom(_BLOCK)
    began, done = time.monotonic(), 0
    with tempfile.TemporaryFile(dir=folder) as file:
        while done < _WRITTEN and time.monotonic() - began < _WRITING_SECONDS:
            file.write(block)
            file.flush()
            done += _BLOCK
        os.fsync(file.fileno())
    return done / (time.monotonic() - began)
