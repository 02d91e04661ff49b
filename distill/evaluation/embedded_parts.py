"""A set's features, stored as they are computed, so that a stopped command can continue.

The file has a batch after the other: of each image its unit feature and norm, float32 [n, D + 1],
and a checksum of the batch. One process writes it; others wait for it.
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
    """The batches so far of features of ``width`` dimensions, in a file that this process holds."""

    path: Path
    file: BinaryIO
    width: int

    def restore(self, found: Embedded) -> int:
        """Put the images that are known into ``found``, and say how many there are.

        What follows the last batch that is whole is cut off.
        """
        count, start = len(found.unit), 0
        self.file.seek(0)
        while start < count:
            rows = min(BATCH, count - start)
            content = self.file.read(_batch_bytes(rows, self.width))
            if content[-_CHECKSUM_BYTES:] != _checksum(content[:-_CHECKSUM_BYTES]):
                break
            values = np.frombuffer(content[:-_CHECKSUM_BYTES], "<f4").reshape(rows, self.width + 1)
            part = slice(start, start + rows)
            found.unit[part], found.norms[part] = values[:, :-1], values[:, -1]
            start += rows
        self.file.seek(start // BATCH * _batch_bytes(BATCH, self.width))
        self.file.truncate()
        return start

    def append(self, part: Embedded) -> None:
        """Write one more batch; ``OSError``, which names the file, where the disk is full."""
        content = np.concatenate([part.unit, part.norms[:, None]], axis=1).astype("<f4").tobytes()
        left = memoryview(content + _checksum(content))
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def remove(self) -> None:
        """Once all features are kept elsewhere."""
        self.path.unlink(missing_ok=True)


@contextmanager
def held_parts(
    path: Path, width: int, waiting: Callable[[int], None] = lambda images: None
) -> Iterator[EmbeddedParts]:
    """The file ``path``, made if it is not there.

    While another process writes it, ``waiting`` is told again and again how many images it has.
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
