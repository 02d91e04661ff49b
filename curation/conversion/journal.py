"""What a conversion has done so far, in the folder of the store that it builds.

``data.mdb`` has the images that were copied, and the state: how far the conversion is. ``rows.bin``
has five numbers for each image that was read, ``quarantine.tsv`` a line for each record that was
skipped. ``images.bin`` has the images that were read, one behind the other, where they have to be
sorted and the source cannot be read in another order. The state says how much of these counts; it
is written, together with images, when all of that is on the disk, so a conversion that was stopped
at any byte goes on from there.
"""

import os
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curation.conversion.store_file import StoreFile, is_sound, read_state
from curation.environment import DATA_FILE
from curation.errors import UserError
from curation.files import sync_folder
from curation.json_text import parse_record
from curation.sources.image_source import SourceStamp
from curation.sources.quarantine import QUARANTINE_FILE, QUARANTINE_HEADER, BadRecordError

ROWS_FILE = "rows.bin"
SPOOL_FILE = "images.bin"
_FORMER_FILES = ("state.json", "leaves.bin", "pages.bin")
"""Of conversions that wrote LMDB's pages themselves"""

KEY, LABEL, OFFSET, SIZE, CHECKSUM = range(5)
"""The columns of ``rows.bin``: record key, label, byte offset, bytes of the image, its CRC-32."""
_ROW = 5 * 8
Count = Annotated[int, Field(ge=0, lt=1 << 48)]
"""Of images or bytes"""


class JournalState(BaseModel):
    """How far a conversion is."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stamp: SourceStamp
    decode: bool = False
    """All images that were read have been decoded"""
    read: Count = 0
    """Images that were read"""
    rows_checksum: Count = 0
    """CRC-32 of their rows"""
    position: tuple[Count, Count] = (0, 0)
    """Number and offset of the next record to read"""
    digest: tuple[Count, str] = (0, "")
    """SHA-256 of the source as far as it was read whole"""
    scanned: bool = False
    """The source was read to its end"""
    ordered: bool = True
    """Labels ascend so far, so images are copied as they are read"""
    spooled: bool = False
    """They do not, and ``images.bin`` has those that were read"""
    copied: Count = 0
    """Images that were copied"""
    skipped: Count = 0
    quarantine: Count = 0
    """Bytes of ``quarantine.tsv``"""
    image_size: tuple[Count, Count] | None = None
    encodings: tuple[Literal["jpeg", "png"], ...] = ()


def load_state(folder: Path) -> JournalState | None:
    """The state kept in ``folder``; None where there is none that can be read.

    Raises ``UserError`` where an earlier version, which kept it otherwise, began the conversion.
    """
    if any((folder / name).exists() for name in _FORMER_FILES):
        raise UserError(
            f"{folder} was begun by an earlier version of this program, whose progress records "
            f"have another form; remove it and convert again"
        )
    content = read_state(folder)
    try:
        return None if content is None else parse_record(content, JournalState)
    except ValueError:
        return None


def load_sound_state(folder: Path) -> JournalState | None:
    """The state to go on from; None where that, or what it speaks of, is not as it was written."""
    state = load_state(folder)
    if state is None or _size(folder / QUARANTINE_FILE) < state.quarantine:
        return None
    if _checksum_of_rows(folder, state.read) != state.rows_checksum:
        return None
    if state.spooled and _size(folder / SPOOL_FILE) < _spooled_bytes(folder, state):
        return None
    return state if is_sound(folder, state.copied) else None


def _checksum_of_rows(folder: Path, count: int) -> int | None:
    if count and _size(folder / ROWS_FILE) < count * _ROW:
        return None
    return zlib.crc32(_mapped_rows(folder, count).data)


def _spooled_bytes(folder: Path, state: JournalState) -> int:
    return int(_mapped_rows(folder, state.read)[:, SIZE].sum()) if state.spooled else 0


def _mapped_rows(folder: Path, count: int) -> np.ndarray:
    if count == 0:
        return np.empty((0, 5), np.int64)
    return np.memmap(folder / ROWS_FILE, np.int64, "r", shape=(count, 5))


def _size(path: Path) -> int:
    return path.stat().st_size if _is_own(path) else 0


def _is_own(path: Path) -> bool:
    """Whether it is a file that a conversion made here; it makes no links."""
    return path.is_file() and not path.is_symlink()


class Journal:
    """What one conversion keeps, brought to where ``state`` says; a context manager.

    What was added since the last ``commit`` is lost when the conversion stops.
    """

    def __init__(self, folder: Path, state: JournalState) -> None:
        self.folder, self.state = folder, state
        self._rows = _open_at(folder / ROWS_FILE, state.read * _ROW)
        self._bad = _open_at(folder / QUARANTINE_FILE, state.quarantine)
        self.file = StoreFile(folder)
        self.read, self.skipped = state.read, state.skipped
        """Images that were read, and records that were skipped, committed or not"""
        self._checksum, self._quarantine = state.rows_checksum, state.quarantine
        self._spool: BinaryIO | None = None
        self._ends = np.zeros(0, np.int64)
        if state.spooled:
            self._spool = _open_at(folder / SPOOL_FILE, _spooled_bytes(folder, state))
        self._images: list[bytes] = []
        self.waiting_bytes = 0
        """Of images that were added since the last commit"""
        self._thread = ThreadPoolExecutor(1)
        self._commit: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread.shutdown()
        self.file.close()
        for file in filter(None, (self._rows, self._bad, self._spool)):
            file.close()

    def add_rows(self, rows: np.ndarray) -> None:
        """Append images that were read: int64 ``[n, 5]``."""
        data = rows.astype("<i8").tobytes()
        _write_all(self._rows, data)
        self._checksum = zlib.crc32(data, self._checksum)
        self.read += len(rows)

    def add_bad(self, bad: BadRecordError, name: str | None) -> None:
        """Append a record that is skipped, with the name of one that is a file."""
        text = ("" if self._quarantine else QUARANTINE_HEADER) + bad.line(name)
        line = text.encode("utf-8", "surrogateescape")
        _write_all(self._bad, line)
        self._quarantine += len(line)
        self.skipped += 1

    def add_images(self, images: Sequence[bytes | memoryview]) -> None:
        """Append images to be copied; those in memory that is used again are copied now."""
        self._images += map(bytes, images)
        self.waiting_bytes += sum(map(len, images))

    def add_spooled(self, images: Sequence[bytes | memoryview]) -> None:
        """Append images that were read, whose rows have been added, to be copied in their order."""
        assert self._spool is not None
        _write_all(self._spool, b"".join(images))

    def read_spooled(self, numbers: np.ndarray) -> list[bytes]:
        """The images that were read as ``numbers``."""
        assert self._spool is not None
        if not len(self._ends):
            self._ends = np.cumsum(self.rows()[:, SIZE])
        sizes = self.rows()[numbers, SIZE]
        begins = self._ends[numbers] - sizes
        file = self._spool.fileno()
        return [os.pread(file, *one) for one in zip(sizes.tolist(), begins.tolist(), strict=True)]

    def begin_spool(self) -> None:
        """Forget what was read and copied, to read everything again and keep it; the next commit
        says so."""
        self.forget_images()
        self._spool = _open_at(self.folder / SPOOL_FILE, 0)
        for file in (self._rows, self._bad):
            file.truncate(0)
            file.seek(0)
        self.read = self.skipped = self._checksum = self._quarantine = 0

    def commit(self, changes: Mapping[str, object]) -> None:
        """Make what was added so far, and ``changes``, the state to go on from.

        It is brought to the disk by another thread, whose errors come with the next call.
        """
        self.wait()
        first, images = self.state.copied, self._images
        added = {
            "read": self.read,
            "rows_checksum": self._checksum,
            "copied": first + len(images),
            "skipped": self.skipped,
            "quarantine": self._quarantine,
        }
        self.state = self.state.model_copy(update={**changes, **added})
        self._images, self.waiting_bytes = [], 0
        # liblmdb lets Python go on after each image: beside another thread that waits to be next.
        self.file.append(first, images)
        self._commit = self._thread.submit(self._write, self.state)

    def wait(self) -> None:
        """Wait until the last commit is on the disk."""
        if self._commit is not None:
            self._commit.result()
            self._commit = None

    def forget_images(self) -> None:
        """Keep what was read, forget what was copied; the next commit says so."""
        self.wait()
        self.file.close()
        (self.folder / DATA_FILE).unlink()
        self.file = StoreFile(self.folder)
        self._images, self.waiting_bytes = [], 0
        self.state = self.state.model_copy(update={"copied": 0})

    def _write(self, state: JournalState) -> None:
        for file in filter(None, (self._rows, self._bad, self._spool)):
            os.fdatasync(file.fileno())
        self.file.commit(state.model_dump_json().encode())

    def rows(self) -> np.ndarray:
        """All images that were read, mapped: int64 ``[n, 5]``."""
        return _mapped_rows(self.folder, self.state.read)


def discard(folder: Path) -> None:
    """Take away all that a conversion keeps in ``folder``."""
    for name in (DATA_FILE, QUARANTINE_FILE):
        (folder / name).unlink(missing_ok=True)
    clear(folder)


def clear(folder: Path) -> None:
    """Take away what only an unfinished conversion needs; an empty quarantine too."""
    killed = folder.glob(".*.partial")
    for path in (*(folder / name for name in (ROWS_FILE, SPOOL_FILE, *_FORMER_FILES)), *killed):
        path.unlink(missing_ok=True)
    if _size(folder / QUARANTINE_FILE) == 0:
        (folder / QUARANTINE_FILE).unlink(missing_ok=True)
    sync_folder(folder)


def _open_at(path: Path, size: int) -> BinaryIO:
    if not _is_own(path):
        path.unlink(missing_ok=True)
    file = path.open("r+b" if path.exists() else "w+b", buffering=0)
    file.truncate(size)
    file.seek(size)
    return file


def _write_all(file: BinaryIO, data: bytes) -> None:
    """All of it: the last bytes of a disk are written without an error for those that are not."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
