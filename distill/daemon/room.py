"""Free disk space: what the start of a job needs, and what is kept for its end."""

import os
from dataclasses import dataclass
from pathlib import Path

from distill.run_directory import CHECKPOINTS
from distill.training.checkpoints import checkpoints_in

LEAST_ROOM = 1 << 18
"""Bytes. With less, no job starts, because it could not write its records."""
_USUAL_ROOM = 1 << 26
_SHARE = 20


@dataclass(frozen=True)
class Room:
    """The bytes of a disk that any user may use."""

    free: int
    total: int


def room_of(folder: Path) -> Room:
    """The disk of ``folder``, or of its nearest existing parent."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    status = os.statvfs(folder)
    return Room(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize)


def has_room(folder: Path, size: int = LEAST_ROOM) -> bool:
    """Whether the disk of ``folder`` has ``size`` bytes free."""
    return room_of(folder).free >= size


def least_room(room: Room) -> int:
    """The free bytes below which no job starts: 64 MiB, or a twentieth of a small disk."""
    return max(LEAST_ROOM, min(_USUAL_ROOM, room.total // _SHARE))


def lowest_room(room: Room) -> int:
    """The free bytes, besides a checkpoint's size, below which a running job is stopped."""
    return least_room(room) // 4


def newest_checkpoint_bytes(run: Path) -> int:
    """The size of the job's newest checkpoint, as an estimate of the next; 0 without one."""
    try:
        trainings = run.glob(f"{CHECKPOINTS}/*/{CHECKPOINTS}")
        found = [each for training in trainings for each in checkpoints_in(training)]
        newest = max(found, key=lambda each: each.stat().st_mtime_ns, default=None)
        files = [] if newest is None else list(newest.iterdir())
        return sum(file.stat().st_size for file in files)
    except OSError:  # it was removed at this moment
        return 0
