"""Advisory locks that end with their process, however it ends."""

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
    """Hold the folder alone; ``UserError`` where another process holds it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder))
        except BlockingIOError:
            raise UserError(f"another process is writing {folder}; wait for it") from None
        yield


@contextmanager
def held(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the file or folder ``path`` alone.

    ``BlockingIOError`` where somebody else holds it for ``wait`` seconds; ``FileNotFoundError``
    where it does not exist.
    """
    with _taken(path, fcntl.LOCK_EX, wait):
        yield


def is_held(path: Path) -> bool:
    """Whether some process holds ``path``; what does not exist is held by nobody."""
    try:
        # Shared: looking must not look like holding to another who looks.
        with _taken(path, fcntl.LOCK_SH, 0.0):
            return False
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise
        return False


def take(descriptor: int, wait: float = 0.0, mode: int = fcntl.LOCK_EX) -> None:
    """Hold what is open as ``descriptor`` until it is closed; ``BlockingIOError`` as ``held``."""
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
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe would wait for a writer
    try:
        take(descriptor, wait, mode)
        yield
    finally:
        os.close(descriptor)
