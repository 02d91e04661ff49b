"""A file that grows by whole pages, which threads write past the system's page cache.

Copying into the cache costs as much processor time as hashing, for a store that is often larger
than the cache.
"""

import errno
import fcntl
import mmap
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np

from curation.conversion.lmdb_pages import HEADER, PAGE

_BUFFER = 4 << 20
_BUFFERS = 8
_THREADS = 2
"""Writes under way: with one the disk waits between them."""

Value = bytes | memoryview


class PageFile:
    """Appends behind the first ``pages`` pages of a file; what else is there is cut off.

    ``OSError`` (a full disk) comes with a later call.
    """

    def __init__(self, path: Path, pages: int) -> None:
        self._file = _open_uncached(path)
        os.ftruncate(self._file, pages * PAGE)
        self._offset, self._used = pages * PAGE, 0
        self._threads = ThreadPoolExecutor(_THREADS)
        self._writes: deque[Future[mmap.mmap]] = deque()
        self._buffer = _new_buffer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._threads.shutdown()
        os.close(self._file)

    def append(self, data: Value) -> None:
        """Append bytes, not always whole pages."""
        rest = memoryview(data)
        while rest:
            part = rest[: _BUFFER - self._used]
            self._buffer[self._used : self._used + len(part)] = part
            self._used += len(part)
            rest = rest[len(part) :]
            if self._used == _BUFFER:
                self._hand_over()

    def append_padded(
        self, headers: np.ndarray, values: Sequence[Value], pages: np.ndarray
    ) -> None:
        """Append ``values[i]`` behind ``headers[i]``, with zeros up to ``pages[i]`` whole pages."""
        ends = pages.cumsum()
        begins = ends - pages
        first = 0
        while first < len(values):
            room = (_BUFFER - self._used) // PAGE
            stop = int(ends.searchsorted(begins[first] + room, "right"))
            if stop == first:  # it goes on in the next buffer
                stop += 1
                padding = int(pages[first]) * PAGE - HEADER - len(values[first])
                for piece in (headers[first].tobytes(), values[first], bytes(padding)):
                    self.append(piece)
            else:
                these = slice(first, stop)
                places = begins[these] - begins[first], ends[these] - begins[first]
                self._lay_out(headers[these], values[these], *places)
            first = stop

    def flush(self) -> list[Future[mmap.mmap]]:
        """Hand everything to the threads; all that was appended is written when these are done."""
        if self._used:
            self._hand_over()
        return list(self._writes)

    def sync(self) -> None:
        """Bring what was written to the disk; another thread may call it meanwhile."""
        os.fdatasync(self._file)

    def overwrite(self, data: bytes) -> None:
        """Write other pages at the beginning of the file."""
        buffer = _new_buffer()
        buffer[: len(data)] = data
        _write(self._file, buffer, len(data), 0)

    def _lay_out(
        self, headers: np.ndarray, values: Sequence[Value], begins: np.ndarray, ends: np.ndarray
    ) -> None:
        """Values that have room in the buffer: each is copied once. Pages count from its end."""
        grid = np.frombuffer(self._buffer, np.uint8)[self._used :].reshape(-1, PAGE)
        grid[ends - 1] = 0
        grid[begins, :HEADER] = headers.view(np.uint8).reshape(-1, HEADER)
        buffer = self._buffer
        places = self._used + HEADER + PAGE * begins
        for place, value in zip(places.tolist(), values, strict=True):
            buffer[place : place + len(value)] = value
        self._used += PAGE * int(ends[-1])

    def _hand_over(self) -> None:
        write = self._threads.submit(_write, self._file, self._buffer, self._used, self._offset)
        self._writes.append(write)
        self._offset += self._used
        self._used = 0
        full = len(self._writes) == _BUFFERS
        self._buffer = self._writes.popleft().result() if full else _new_buffer()


def _open_uncached(path: Path) -> int:
    how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, how | os.O_DIRECT, 0o644)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems have no way past the cache
            raise
    return os.open(path, how, 0o644)


def _new_buffer() -> mmap.mmap:
    """Memory that begins with a page of the system: ``O_DIRECT`` wants it so."""
    return mmap.mmap(-1, _BUFFER, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _write(file: int, buffer: mmap.mmap, size: int, offset: int) -> mmap.mmap:
    """Write the beginning of the buffer; the buffer, to be used again."""
    done = 0
    while done < size:
        try:
            done += os.pwrite(file, memoryview(buffer)[done:size], offset + done)
        except OSError as error:
            if error.errno != errno.EINVAL or not _go_through_cache(file):
                raise
    return buffer


def _go_through_cache(file: int) -> bool:
    """Where a size or place does not suit the disk; whether the file did not do so before."""
    how = fcntl.fcntl(file, fcntl.F_GETFL)
    fcntl.fcntl(file, fcntl.F_SETFL, how & ~os.O_DIRECT)
    return bool(how & os.O_DIRECT)
