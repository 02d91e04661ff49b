"""The progress of a conversion, kept in the folder of the unfinished store.

``data.mdb`` has the images copied so far and the state. ``rows.bin`` has five numbers for each
image read, ``quarantine.tsv`` a line for each skipped record. ``images.bin`` has the images read,
in reading order, if they need sorting and the source cannot be read in another order. The state
tells how much of these files is valid. It is written together with images after the rest is on
disk, so a conversion can be interrupted at any byte and resumed.
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
"""Files of conversions that wrote LMDB's pages themselves"""

KEY, LABEL, OFFSET, SIZE, CHECKSUM = range(5)
"""The columns of ``rows.bin``: record key, label, byte offset, size of the image, its CRC-32."""
_ROW = 5 * 8
Count = Annotated[int, Field(ge=0, lt=1 << 48)]
"""A number of images or bytes"""


class JournalState(BaseModel):
    """The progress of a conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stamp: SourceStamp
    decode: bool = False
    """All images read so far were decoded"""
    read: Count = 0
    """Images read"""
    rows_checksum: Count = 0
    """CRC-32 of their rows"""
    position: tuple[Count, Count] = (0, 0)
    """Number and offset of the next record"""
    digest: tuple[Count, str] = (0, "")
    """SHA-256 of the part of the source that was read completely"""
    scanned: bool = False
    """The source was read to its end"""
    ordered: bool = True
    """Labels ascend so far, so images are copied as they are read"""
    spooled: bool = False
    """Labels do not ascend, and ``images.bin`` has the images read"""
    copied: Count = 0
    """Images copied"""
    skipped: Count = 0
    quarantine: Count = 0
    """Bytes of ``quarantine.tsv``"""
    image_size: tuple[Count, Count] | None = None
    encodings: tuple[Literal["jpeg", "png"], ...] = ()


def load_state(folder: Path) -> JournalState | None:
    """The state in ``folder``; None if there is none or it cannot be read.

    Raises ``UserError`` if the conversion was begun by an older version with another format.
    """
    if any((folder / name).exists() for name in _FORMER_FILES):
        raise UserError(
            f"{folder} was started by an earlier version of this program, whose progress records "
            f"have another format; remove it and convert again"
        )
    content = read_state(folder)
    try:
        return None if content is None else parse_record(content, JournalState)
    except ValueError:
        return None


def load_sound_state(folder: Path) -> JournalState | None:
    """The state to resume from; None if it or the files it describes are damaged."""
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
    """Whether a conversion may have made this file; conversions make no links."""
    return path.is_file() and not path.is_symlink()


class Journal:
    """The files of one conversion, truncated to ``state``; a context manager.

    Everything added since the last ``commit`` is lost when the conversion stops.
    """

    def __init__(self, folder: Path, state: JournalState) -> None:
        self.folder, self.state = folder, state
        self._rows = _open_at(folder / ROWS_FILE, state.read * _ROW)
        self._bad = _open_at(folder / QUARANTINE_FILE, state.quarantine)
        self.file = StoreFile(folder)
        self.read, self.skipped = state.read, state.skipped
        """Images read and records skipped, committed or not"""
        self._checksum, self._quarantine = state.rows_checksum, state.quarantine
        self._spool: BinaryIO | None = None
        self._ends = np.zeros(0, np.int64)
        if state.spooled:
            self._spool = _open_at(folder / SPOOL_FILE, _spooled_bytes(folder, state))
        self._images: list[bytes] = []
        self.waiting_bytes = 0
        """Bytes of the images added since the last commit"""
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
        """Append a skipped record; ``name`` is its path if it is a file."""
        text = ("" if self._quarantine else QUARANTINE_HEADER) + bad.line(name)
        line = text.encode("utf-8", "surrogateescape")
        _write_all(self._bad, line)
        self._quarantine += len(line)
        self.skipped += 1

    def add_images(self, images: Sequence[bytes | memoryview]) -> None:
        """Append images to be copied. The buffers may be reused afterwards."""
        self._images += map(bytes, images)
        self.waiting_bytes += sum(map(len, images))

    def add_spooled(self, images: Sequence[bytes | memoryview]) -> None:
        """Append images to be sorted later; their rows have already been added."""
        assert self._spool is not None
        _write_all(self._spool, b"".join(images))

    def read_spooled(self, numbers: np.ndarray) -> list[bytes]:
        """The spooled images with these reading ``numbers``."""
        assert self._spool is not None
        if not len(self._ends):
            self._ends = np.cumsum(self.rows()[:, SIZE])
        sizes = self.rows()[numbers, SIZE]
        begins = self._ends[numbers] - sizes
        file = self._spool.fileno()
        return [os.pread(file, *one) for one in zip(sizes.tolist(), begins.tolist(), strict=True)]

    def begin_spool(self) -> None:
        """Discard everything read and copied, to read and spool it again.

        The next commit makes this permanent.
        """
        self.forget_images()
        self._spool = _open_at(self.folder / SPOOL_FILE, 0)
        for file in (self._rows, self._bad):
            file.truncate(0)
            file.seek(0)
        self.read = self.skipped = self._checksum = self._quarantine = 0

    def commit(self, changes: Mapping[str, object]) -> None:
        """Make everything added so far, and ``changes``, the state to resume from.

        Another thread writes it to disk; its errors are raised by the next call.
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
        # liblmdb releases the GIL after each image, so a waiting thread would slow this down.
        self.file.append(first, images)
        self._commit = self._thread.submit(self._write, self.state)

    def wait(self) -> None:
        """Wait until the last commit is on disk."""
        if self._commit is not None:
            self._commit.result()
            self._commit = None

    def forget_images(self) -> None:
        """Discard the copied images but keep what was read; the next commit makes
        this permanent.
        """
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
        """All images read, memory-mapped: int64 ``[n, 5]``."""
        return _mapped_rows(self.folder, self.state.read)


def discard(folder: Path) -> None:
    """Remove all files of a conversion from ``folder``."""
    for name in (DATA_FILE, QUARANTINE_FILE):
        (folder / name).unlink(missing_ok=True)
    clear(folder)


def clear(folder: Path) -> None:
    """Remove the files that only an unfinished conversion needs, and an empty quarantine."""
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
    """Write all of ``data``: a full disk accepts a part without an error."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
