"""Which rows of a cache are computed, and which process is at which: shared by any number."""

import fcntl
import os
import zlib
from pathlib import Path

import numpy as np

from teachers.cache_files import CLAIMS, ROWS, CacheAbout, map_cached, open_to_lock


class RowTable:
    """``rows.npy``, uint32: for each row of the store its checksum, or 0 while it is not computed.

    It is mapped: what one process enters, the others see at once.
    """

    def __init__(self, folder: Path, about: CacheAbout) -> None:
        self.entries = map_cached(folder, ROWS, about)

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Those of ``rows`` that nobody has computed."""
        return rows[self.entries[rows] == 0]

    def missing_of(self, wanted: np.ndarray) -> np.ndarray:
        """``wanted`` (bool ``[N]``) without the rows that somebody has computed."""
        missing: np.ndarray = self.entries == 0
        missing &= wanted
        return missing


def checksums(unit: np.ndarray, norm: np.ndarray) -> np.ndarray:
    """The CRC-32 of each row's bytes in ``unit``, then ``norm``: uint32 ``[n]``; 1 stands for 0."""
    parts = [values.reshape(len(values), -1).view(np.uint8) for values in (unit, norm)]
    together = np.concatenate(parts, axis=1)
    rows = together.view(f"V{together.shape[1]}")[:, 0].tolist()
    return np.maximum(np.fromiter(map(zlib.crc32, rows), np.uint32, len(rows)), 1)


class ArrayFile:
    """A ``.npy`` file written row by row, so that no memory is mapped that grows with it."""

    def __init__(self, path: Path, array: np.memmap) -> None:
        self._begin, self._row = array.offset, array.strides[0]
        self._descriptor = os.open(path, os.O_RDWR)

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Put ``values`` at ``rows`` and wait until the disk has them."""
        cuts = np.flatnonzero(np.diff(rows) != 1) + 1
        for run, part in zip(np.split(rows, cuts), np.split(values, cuts), strict=True):
            self._write_run(memoryview(part.tobytes()), self._begin + int(run[0]) * self._row)
        os.fdatasync(self._descriptor)

    def _write_run(self, content: memoryview, position: int) -> None:
        while content:
            written = os.pwrite(self._descriptor, content, position)
            content, position = content[written:], position + written

    def close(self) -> None:
        os.close(self._descriptor)


class Claims:
    """The rows this process works on: locks on the bytes of the file ``claims``.

    Byte k stands for the ``claim`` rows from k * claim. The system gives a process's locks back
    when it ends, in whatever way, so another process can take over at once what one that was
    killed had begun.
    """

    def __init__(self, folder: Path, claim: int) -> None:
        self.claim = claim
        self._file = open_to_lock(folder, CLAIMS)

    def take(self, row: int) -> bool:
        """Claim the rows around this one; False where another process has them."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row // self.claim)
        except (BlockingIOError, PermissionError):  # systems differ in what they say
            return False
        return True

    def give_back(self, rows: np.ndarray) -> None:
        """Give back the claims that hold ``rows``."""
        for claim in np.unique(rows // self.claim).tolist():
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, claim)

    def close(self) -> None:
        """Give back everything."""
        self._file.close()
