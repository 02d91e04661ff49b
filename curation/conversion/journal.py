"""What a conversion has done so far, beside the store that it builds.

``rows.bin`` has five numbers for each image that was read, ``leaves.bin`` two for each leaf page
that was written, ``quarantine.tsv`` a line for each record that was skipped. They only grow.
``state.json`` says how much of each counts; it is replaced when all of that is on the disk, so a
conversion that was stopped at any byte goes on from there.
"""

import mmap
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curation.conversion.lmdb_writer import FIRST_PAGE, LmdbWriter
from curation.errors import UserError
from curation.files import atomic_file
from curation.json_text import read_record
from curation.sources.image_source import SourceStamp
from curation.sources.quarantine import QUARANTINE_FILE, QUARANTINE_HEADER, BadRecordError

STATE_FILE = "state.json"
PAGES_FILE = "pages.bin"
"""The data file while it grows"""
ROWS_FILE, LEAVES_FILE = "rows.bin", "leaves.bin"

KEY, LABEL, OFFSET, SIZE, CHECKSUM = range(5)
"""The columns of ``rows.bin``: record key, label, byte offset, bytes of the image, its CRC-32."""
_ROW, _LEAF = 5 * 8, 2 * 8
Count = Annotated[int, Field(ge=0, lt=1 << 48)]
"""Of images, pages or bytes"""


class JournalState(BaseModel):
    """How far a conversion is; ``state.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stamp: SourceStamp
    decode: bool = False
    """All images that were read have been decoded"""
    read: Count = 0
    """Images that were read"""
    position: tuple[Count, Count] = (0, 0)
    """Number and offset of the next record to read"""
    digest: tuple[Count, str] = (0, "")
    """SHA-256 of the source as far as it was read whole"""
    scanned: bool = False
    """The source was read to its end"""
    ordered: bool = True
    """Labels ascend so far, so images are copied as they are read"""
    copied: Count = 0
    """Images that were copied"""
    leaves: Count = 0
    page: Count = FIRST_PAGE
    overflow: Count = 0
    skipped: Count = 0
    quarantine: Count = 0
    """Bytes of ``quarantine.tsv``"""
    image_size: tuple[Count, Count] | None = None
    encodings: tuple[Literal["jpeg", "png"], ...] = ()


def new_state(stamp: SourceStamp, decode: bool) -> JournalState:
    """The state of a conversion that has done nothing."""
    return JournalState(stamp=stamp, decode=decode)


def load_state(folder: Path) -> JournalState | None:
    """The state kept in ``folder``; None where there is none that can be read and trusted."""
    try:
        state = read_record(folder / STATE_FILE, JournalState)
    except UserError:
        return None
    wanted = {
        ROWS_FILE: state.read * _ROW,
        LEAVES_FILE: state.leaves * _LEAF,
        QUARANTINE_FILE: state.quarantine,
        PAGES_FILE: state.page * 4096 if state.copied else 0,
    }
    return state if all(_size(folder / name) >= size for name, size in wanted.items()) else None


def _size(path: Path) -> int:
    return path.stat().st_size if _is_own(path) else 0


def _is_own(path: Path) -> bool:
    """Whether it is a file that a conversion made here; it makes no links."""
    return path.is_file() and not path.is_symlink()


class Journal:
    """The files of one conversion, brought to where ``state`` says; a context manager.

    What was added since the last ``commit`` is lost when the conversion stops.
    """

    def __init__(self, folder: Path, state: JournalState) -> None:
        self.folder, self.state = folder, state
        self._rows = _open_at(folder / ROWS_FILE, state.read * _ROW)
        self._leaves = _open_at(folder / LEAVES_FILE, state.leaves * _LEAF)
        self._bad = _open_at(folder / QUARANTINE_FILE, state.quarantine)
        self._read = state.read
        self._quarantine, self.skipped = state.quarantine, state.skipped
        self._thread = ThreadPoolExecutor(1)
        self._commit: Future[None] | None = None

    @property
    def read(self) -> int:
        """Images that were read, committed or not."""
        return self._read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown()
        for file in (self._rows, self._leaves, self._bad):
            file.close()

    def add_rows(self, rows: np.ndarray) -> None:
        """Append images that were read: int64 ``[n, 5]``."""
        self._rows.write(rows.astype("<i8").tobytes())
        self._read += len(rows)

    def add_bad(self, bad: BadRecordError, name: str | None) -> None:
        """Append a record that is skipped, with the name of one that is a file."""
        text = ("" if self._quarantine else QUARANTINE_HEADER) + bad.line(name)
        self._quarantine += self._bad.write(text.encode("utf-8", "surrogateescape"))
        self.skipped += 1

    def commit_copies(
        self, writer: LmdbWriter, changes: Mapping[str, object] | None = None
    ) -> None:
        """``commit`` all images that ``writer`` was given too, and begin another leaf page."""
        writer.end_leaf()
        leaves = writer.take_leaves()
        self._leaves.write(np.array(leaves, "<i8").tobytes())
        copied = {
            "copied": writer.entries,
            "leaves": self.state.leaves + len(leaves),
            "page": writer.page,
            "overflow": writer.overflow,
        }
        self.commit({**(changes or {}), **copied}, writer)

    def commit(self, changes: Mapping[str, object], writer: LmdbWriter | None = None) -> None:
        """Make what was added so far, and ``changes``, the state to go on from.

        It is brought to the disk by another thread, whose errors come with the next call.
        """
        self.wait()
        added = {"read": self._read, "skipped": self.skipped, "quarantine": self._quarantine}
        self.state = self.state.model_copy(update={**changes, **added})
        writes = [] if writer is None else writer.flush()
        self._commit = self._thread.submit(self._write, self.state, writer, writes)

    def wait(self) -> None:
        """Wait until the last commit is on the disk."""
        if self._commit is not None:
            self._commit.result()
            self._commit = None

    def forget_copies(self) -> None:
        """Keep what was read, forget what was copied; the next commit says so."""
        self.wait()
        (self.folder / PAGES_FILE).unlink()
        self._leaves.truncate(0)
        self._leaves.seek(0)
        fresh = new_state(self.state.stamp, self.state.decode)
        names = ("copied", "leaves", "page", "overflow")
        self.state = self.state.model_copy(update={name: getattr(fresh, name) for name in names})

    def _write(
        self, state: JournalState, writer: LmdbWriter | None, writes: "list[Future[mmap.mmap]]"
    ) -> None:
        for write in writes:
            write.result()
        if writer is not None:
            writer.sync()
        for file in (self._rows, self._leaves, self._bad):
            os.fdatasync(file.fileno())
        with atomic_file(self.folder / STATE_FILE) as file:
            file.write(state.model_dump_json().encode())

    def rows(self) -> np.ndarray:
        """All images that were read, mapped: int64 ``[n, 5]``."""
        if self.state.read == 0:
            return np.empty((0, 5), np.int64)
        return np.memmap(self.folder / ROWS_FILE, np.int64, "r", shape=(self.state.read, 5))

    def leaves(self) -> np.ndarray:
        """All leaf pages that were written: int64 ``[n, 2]``."""
        return np.fromfile(self.folder / LEAVES_FILE, np.int64).reshape(-1, 2)


def discard(folder: Path) -> None:
    """Take away all that a conversion keeps in ``folder``."""
    (folder / PAGES_FILE).unlink(missing_ok=True)
    (folder / QUARANTINE_FILE).unlink(missing_ok=True)
    clear(folder)


def clear(folder: Path) -> None:
    """Take away what only an unfinished conversion needs; an empty quarantine too."""
    for name in (ROWS_FILE, LEAVES_FILE, STATE_FILE):
        (folder / name).unlink(missing_ok=True)
    if _size(folder / QUARANTINE_FILE) == 0:
        (folder / QUARANTINE_FILE).unlink(missing_ok=True)


def _open_at(path: Path, size: int) -> BinaryIO:
    if not _is_own(path):
        path.unlink(missing_ok=True)
    file = path.open("r+b" if path.exists() else "w+b", buffering=0)
    file.truncate(size)
    file.seek(size)
    return file
