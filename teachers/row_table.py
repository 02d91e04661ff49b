"""Which rows of a cache are computed, and which process works on which; shared by processes."""

import fcntl
import os
import zlib
from pathlib import Path

import numpy as np

from teachers.cache_files import CLAIMS, ROWS, CacheAbout, map_cached, open_to_lock


class RowTable:
    """``rows.npy``, uint32: the checksum of each row of the store, or 0 if it is not computed.

    The file is memory-mapped, so that processes see each other's entries at once.
    """

    def __init__(self, folder: Path, about: CacheAbout) -> None:
        self.entries = map_cached(folder, ROWS, about)

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Those of ``rows`` that are not computed."""
        return rows[self.entries[rows] == 0]

    def missing_of(self, wanted: np.ndarray) -> np.ndarray:
        """``wanted`` (bool ``[N]``) without the rows that are already computed."""
        missing: np.ndarray = self.entries == 0
        missing &= wanted
        return missing


def checksums(unit: np.ndarray, norm: np.ndarray) -> np.ndarray:
    """The CRC-32 of each row's bytes in ``unit``, then ``norm``: uint32 ``[n]``; 0 becomes 1."""
    parts = [values.reshape(len(values), -1).view(np.uint8) for values in (unit, norm)]
    together = np.concatenate(parts, axis=1)
    rows = together.view(f"V{together.shape[1]}")[:, 0].tolist()
    return np.maximum(np.fromiter(map(zlib.crc32, rows), np.uint32, len(rows)), 1)


class ArrayFile:
    """A ``.npy`` file written row by row, without a mapping whose memory grows with it."""

    def __init__(self, path: Path, array: np.memmap) -> None:
        self._begin, self._row = array.offset, array.strides[0]
        self._descriptor = os.open(path, os.O_RDWR)

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Write ``values`` at ``rows`` and wait until they are on disk."""
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
    """The rows this process works on: locks on bytes of the file ``claims``.

    Byte k represents the ``claim`` rows from k * claim. The system releases a process's locks when
    it ends for any reason, so another process can take over its rows at once.
    """

    def __init__(self, folder: Path, claim: int) -> None:
        self.claim = claim
        self._file = open_to_lock(folder, CLAIMS)

    def take(self, row: int) -> bool:
        """Claim the rows around this one; False if another process holds them."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, row // self.claim)
        except (BlockingIOError, PermissionError):  # depends on the system
            return False
        return True

    def give_back(self, rows: np.ndarray) -> None:
        """Release the claims that contain ``rows``."""
        for claim in np.unique(rows // self.claim).tolist():
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, claim)

    def close(self) -> None:
        """Release all claims."""
        self._file.close()
