"""The open queue file: its transactions, and the disk space reserved for them.

WAL with ``synchronous=FULL``: committed data survives a power cut. ``BEGIN IMMEDIATE`` takes the
write lock before anything is read, so two processes never decide on the same state.
"""

import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from curation.errors import UserError
from distill.daemon import queue_file
from distill.daemon.room import has_room
from distill.daemon.schema import has_tables, is_current, migrate

ROOM = 100
"""Spare pages in the queue's files, so that jobs can be ended on a full disk"""
_PAGE_BYTES = 4096
_ROOM_SECONDS = 60.0


class QueueConnection:
    """One queue's tables. Safe to use from several threads and several processes."""

    sqlite: sqlite3.Connection
    """Use it with the ``mutex`` held, as inside a transaction."""

    def __init__(self, path: Path, named: Path | None = None) -> None:
        """Open the queue in ``path``, creating or upgrading it if necessary.

        Raises ``UserError`` if the file is damaged or belongs to a newer version. Error messages
        call it ``named``, if it is a copy.
        """
        self.path, self._named = path, named or path
        self.mutex = threading.RLock()
        self._least_free = sys.maxsize  # on first use, the log needs its reserve as well
        self._room_wanted_at = 0.0
        try:
            if not path.exists():
                queue_file.make(path)
            self._file = queue_file.identity(path)
            self.sqlite = queue_file.connect(path)
            self._prepare()
        except sqlite3.Error as error:
            self.close()
            raise UserError(queue_file.trouble(self._named, error)) from None
        except UserError:
            self.close()
            raise

    def _prepare(self) -> None:
        connection = self.sqlite
        connection.row_factory = sqlite3.Row
        if not has_tables(connection):
            raise sqlite3.DatabaseError("it has no tables")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # Pages: the write-ahead log restarts before it needs more than `keep_room` reserved.
        connection.execute(f"PRAGMA wal_autocheckpoint = {ROOM // 2}")
        if not is_current(connection):
            with self.exclusive():
                migrate(connection, self._named)
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)

    def close(self) -> None:
        if hasattr(self, "sqlite"):
            self.sqlite.close()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One transaction; no other process can change the queue until it ends.

        Nested uses join the outer transaction.
        """
        with self.mutex:
            if self.sqlite.in_transaction:
                yield
                return
            if queue_file.identity(self.path) != self._file:
                raise sqlite3.OperationalError(
                    "its file was moved or replaced; run `distill stop` and start the daemon again"
                )
            self.sqlite.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.sqlite.execute("COMMIT")
            except BaseException:
                if self.sqlite.in_transaction:  # a full disk ends it automatically
                    self.sqlite.execute("ROLLBACK")
                raise

    @contextmanager
    def undone_alone(self) -> Iterator[None]:
        """A savepoint: if the block fails, only its own changes are rolled back."""
        with self.exclusive():
            self.sqlite.execute("SAVEPOINT part")
            try:
                yield
            except BaseException:
                if self.sqlite.in_transaction:
                    self.sqlite.execute("ROLLBACK TO part")
                raise
            finally:
                if self.sqlite.in_transaction:
                    self.sqlite.execute("RELEASE part")

    def keep_room(self) -> None:
        """Reserve spare space in the queue's file and its write-ahead log, if the disk has it.

        Space that is merely free on the disk would be used by the job that fills it. The log keeps
        its size as long as some process, such as the daemon, has the queue open.
        """
        with self.mutex:
            (free,) = self.sqlite.execute("PRAGMA freelist_count").fetchone()
            if time.monotonic() < self._room_wanted_at or free >= self._least_free:
                return
            self._room_wanted_at = time.monotonic() + _ROOM_SECONDS
            if has_room(self.path, 2 * ROOM * _PAGE_BYTES):
                with suppress(sqlite3.OperationalError):  # for example a quota
                    self._take_room()

    def _take_room(self) -> None:
        """Write and then free as many pages as should be spare."""
        filler = f"zeroblob({ROOM * _PAGE_BYTES})"
        self.sqlite.execute("DROP TABLE IF EXISTS room")
        self.sqlite.execute(f"CREATE TABLE room AS SELECT {filler} AS pages")
        self.sqlite.execute("DROP TABLE room")
        self.sqlite.execute("PRAGMA wal_checkpoint(RESTART)")
        self._least_free = ROOM // 2
