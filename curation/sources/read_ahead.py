"""Reads a file in large blocks and hashes them in a second thread ahead of the consumer."""

import hashlib
import itertools
import queue
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from curation.sources.digests import PrefixDigest

BLOCK_BYTES = 2 << 20
OVERLAP_BYTES = 64 << 10
"""A multiple of four that is longer than nearly all records"""
_BLOCKS_AHEAD = 4


class FileBlock(NamedTuple):
    """Bytes of a file, their position, and the digest of the file up to their end.

    They begin with the last ``OVERLAP_BYTES`` of the previous block, so that a record cut off at
    the end of one block is whole in the next.
    """

    offset: int
    data: memoryview
    digest: PrefixDigest


def read_blocks(path: Path) -> Generator[FileBlock, None, None]:
    """All bytes of the file in order; each block is valid until the next is requested.

    Closing the iterator ends the thread.
    """
    blocks: queue.Queue[FileBlock | BaseException | None] = queue.Queue(_BLOCKS_AHEAD)
    left = threading.Event()
    thread = threading.Thread(target=_read, args=(path, blocks, left), daemon=True)
    thread.start()
    try:
        while (item := blocks.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
        while not blocks.empty():  # wakes a reader that waits for room, so that it ends
            blocks.get_nowait()
        thread.join()


def _read(
    path: Path, blocks: "queue.Queue[FileBlock | BaseException | None]", left: threading.Event
) -> None:
    try:
        for block in _hashed_blocks(path):
            if left.is_set():
                return
            blocks.put(block)
        blocks.put(None)
    except BaseException as error:
        blocks.put(error)


def _hashed_blocks(path: Path) -> Iterator[FileBlock]:
    # One being filled, those in the queue, and one in use.
    buffers = [bytearray(OVERLAP_BYTES + BLOCK_BYTES) for _ in range(_BLOCKS_AHEAD + 2)]
    digest = hashlib.sha256()
    end = 0
    last = memoryview(b"")
    with path.open("rb", buffering=0) as file:
        for buffer in itertools.cycle(buffers):
            data = memoryview(buffer)
            kept = min(len(last), OVERLAP_BYTES)
            data[:kept] = last[len(last) - kept :]
            size = file.readinto(data[kept : kept + BLOCK_BYTES])
            if not size:
                return
            last = data[: kept + size]
            digest.update(last[kept:])
            end += size
            yield FileBlock(end - len(last), last, PrefixDigest(end, digest.hexdigest()))
