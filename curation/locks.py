"""Advisory locks, which end with their process."""

import errno
import fcntl
import math
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from curation.errors import UserError

_RETRY_SECONDS = 0.02
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder; ``UserError`` if another process holds the lock."""
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder))
        except BlockingIOError:
            raise UserError(f"another process is writing {folder}; wait until it ends") from None
        yield


@contextmanager
def held(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Lock the file or folder ``path`` exclusively.

    Raises ``BlockingIOError`` if another process still holds it after ``wait`` seconds, and
    ``FileNotFoundError`` if it does not exist.
    """
    with _taken(path, fcntl.LOCK_EX, wait):
        yield


def is_held(path: Path) -> bool:
    """Whether some process has locked ``path``; False if it does not exist."""
    try:
        # A shared lock, so that two simultaneous checks do not see each other.
        with _taken(path, fcntl.LOCK_SH, 0.0):
            return False
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise
        return False


def take(descriptor: int, wait: float = 0.0, mode: int = fcntl.LOCK_EX) -> None:
    """Lock an open ``descriptor`` until it is closed; ``BlockingIOError`` as in ``held``."""
    if wait == math.inf:
        fcntl.flock(descriptor, mode)
        return None
    deadline = time.monotonic() + wait
    while True:
        try:
            return fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_SECONDS)


@contextmanager
def _taken(path: Path, mode: int, wait: float) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # do not block on a named pipe
    try:
        take(descriptor, wait, mode)
        yield
    finally:
        os.close(descriptor)
