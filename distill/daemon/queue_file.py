"""The queue's file: atomic creation, detection of replacement, and read-only access."""

import errno
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from curation.files import disk_error, sync_folder
from curation.locks import held
from curation.printable import argument
from distill.daemon.runfolder import unused_name
from distill.daemon.schema import migrate
from distill.run_directory import SPEC

_BUSY_SECONDS = 10.0
_LONGEST_PATH = 500
"""A little less than ``MAX_PATHNAME`` of SQLite, which adds suffixes"""
_LOG, _SHARED = "-wal", "-shm"


def connect(path: Path) -> sqlite3.Connection:
    """A connection that waits for locks, with explicit transactions only."""
    return sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )


def make(path: Path) -> None:
    """Create a new queue atomically together with its tables.

    An empty file is therefore a queue that has lost its content.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with held(path.parent, _BUSY_SECONDS):
            if path.exists():
                return  # another process created it
            # SQLite would apply the leftover log of a moved queue to this one.
            for suffix in (_LOG, _SHARED):
                leftover = path.with_name(path.name + suffix)
                if leftover.exists():
                    leftover.rename(unused_name(leftover))
            temporary.unlink(missing_ok=True)
            _write_tables(temporary)
            temporary.rename(path)
            sync_folder(path.parent)
    except BlockingIOError:
        raise sqlite3.OperationalError("locked") from None


def _write_tables(path: Path) -> None:
    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        migrate(connection, path)
        connection.execute("COMMIT")


def identity(path: Path) -> tuple[int, int] | None:
    """The identity of the file, independent of its name; ``None`` if it does not exist.

    Raises ``sqlite3.DatabaseError`` for an empty file: SQLite would treat it as new and delete the
    log beside it with all its content.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if status.st_size == 0:
        raise sqlite3.DatabaseError("it is empty")
    return status.st_dev, status.st_ino


@contextmanager
def readable(path: Path) -> Iterator[Path]:
    """``path``, or a copy if it is not writable, because SQLite's WAL writes even for reading."""
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for suffix in (_LOG, ""):
            source = path.with_name(path.name + suffix)
            if source.exists():
                shutil.copyfile(source, copy.with_name(source.name))
        yield copy


_OTHER_TABLES = re.compile("no such|duplicate")
"""SQLite's errors if the tables do not match the version in the file"""


def no_space(error: sqlite3.Error) -> bool:
    """Whether the disk is full or failing."""
    name = getattr(error, "sqlite_errorname", "")  # none if an error is not SQLite's own
    return name.startswith(("SQLITE_FULL", "SQLITE_IOERR"))


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the error says that the queue itself is damaged."""
    return type(error) is sqlite3.DatabaseError or _OTHER_TABLES.match(str(error)) is not None


def trouble(path: Path, error: sqlite3.Error) -> str:
    """One line on why the queue in ``path`` cannot be used."""
    if not isinstance(error, sqlite3.OperationalError) or is_damage(error):
        return (
            f"the queue {path} is damaged ({error}); restore a copy of it, or move it away and "
            f"submit the jobs again, each with {resubmit(path)}: finished steps are reused"
        )
    if no_space(error):
        return disk_error(path, errno.ENOSPC)
    if "locked" in str(error):
        return f"the queue {path} is locked by another process; try again"
    if len(os.fsencode(path)) > _LONGEST_PATH:
        return (
            f"the queue {path} cannot be used: SQLite opens no path of more than {_LONGEST_PATH} "
            "bytes; use a workspace with a shorter path"
        )
    return (
        f"the queue {path} cannot be used ({error}); check the folder, its permissions and the "
        "free space"
    )


def resubmit(path: Path) -> str:
    """The command that queues a job again from its run folder."""
    return f"`distill submit {argument(path.parent.parent / 'runs')}/JOB/{SPEC}`"
