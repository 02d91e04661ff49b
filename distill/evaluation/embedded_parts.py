"""The features of a set, stored as they are computed, so that an interrupted command can resume.

The file is a sequence of batches. A batch holds the unit feature and norm of each image, float32
[n, D + 1], and a checksum. One process writes the file while others wait.
"""

import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from curation.locks import take
from distill.evaluation.features import BATCH, Embedded

_CHECKSUM_BYTES = 4
_WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class EmbeddedParts:
    """The stored batches of features with ``width`` dimensions, in a file that is locked."""

    path: Path
    file: BinaryIO
    width: int

    def restore(self, found: Embedded) -> int:
        """Copy the stored features into ``found`` and return the number of images.

        Truncates the file after the last intact batch.
        """
        count, start, end = len(found.unit), 0, 0
        self.file.seek(0)
        while start < count:
            rows = min(BATCH, count - start)
            content = self.file.read(_batch_bytes(rows, self.width))
            if content[-_CHECKSUM_BYTES:] != _checksum(content[:-_CHECKSUM_BYTES]):
                break
            values = np.frombuffer(content[:-_CHECKSUM_BYTES], "<f4").reshape(rows, self.width + 1)
            part = slice(start, start + rows)
            found.unit[part], found.norms[part] = values[:, :-1], values[:, -1]
            start, end = start + rows, end + len(content)
        self.file.seek(end)
        self.file.truncate()
        return start

    def append(self, part: Embedded) -> None:
        """Append a batch. Raises ``OSError`` that names the file if the disk is full."""
        content = np.concatenate([part.unit, part.norms[:, None]], axis=1).astype("<f4").tobytes()
        left = memoryview(content + _checksum(content))
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def remove(self) -> None:
        """Delete the file, once all features are stored elsewhere."""
        self.path.unlink(missing_ok=True)


@contextmanager
def held_parts(
    path: Path, width: int, waiting: Callable[[int], None] = lambda images: None
) -> Iterator[EmbeddedParts]:
    """Open and lock the file ``path``; creates it if it does not exist.

    While another process holds the lock, ``waiting`` is called repeatedly with the number of images
    that the file holds.
    """
    with os.fdopen(_opened(path), "r+b", buffering=0) as file:
        while True:
            try:
                take(file.fileno())
                break
            except BlockingIOError:
                size = os.fstat(file.fileno()).st_size
                waiting(size // _batch_bytes(BATCH, width) * BATCH)
                time.sleep(_WAIT_SECONDS)
        yield EmbeddedParts(path, file, width)


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(path, flags, 0o644)


def _batch_bytes(rows: int, width: int) -> int:
    return 4 * rows * (width + 1) + _CHECKSUM_BYTES


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "little")
