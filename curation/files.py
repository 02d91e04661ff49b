"""Files: what is wanted of those that are read, and writing them whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from curation.errors import UserError


def regular_file_size(path: Path) -> int:
    """The size in bytes; ``UserError`` where the path is a directory, missing, or a device."""
    if path.is_dir():
        raise UserError(f"{path} is a directory; a file is wanted here")
    if not path.is_file():
        raise UserError(f"{path} does not exist or is no regular file")
    return path.stat().st_size


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write beside ``path``, which takes its name when the block ends without error.

    It is either there whole or not at all, also after a power cut.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names inside ``folder`` (new, renamed, removed) survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
