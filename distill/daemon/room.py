"""Room on the disk: what the start of a job takes, and what is kept for the end of one."""

import os
from pathlib import Path

LEAST_ROOM = 1 << 18
"""Bytes. With fewer free no job is started: it could not even write its records."""


def has_room(folder: Path, size: int = LEAST_ROOM) -> bool:
    """Whether the disk of ``folder``, or of one above that exists, has ``size`` bytes."""
    return free_bytes(folder) >= size


def free_bytes(folder: Path) -> int:
    """What is free on the disk of ``folder``, or of one above that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
