"""A file's bytes in big blocks, read and hashed by a second thread ahead of who takes them."""

import hashlib
import queue
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK_BYTES = 4 << 20
_BLOCKS_AHEAD = 3


class Digest(NamedTuple):
    """The SHA-256 of a source's first ``length`` bytes (or files)."""

    length: int
    hex: str


class Block(NamedTuple):
    """Bytes of a file, where they begin, and the digest of everything up to their end."""

    offset: int
    data: bytes
    digest: Digest


def read_blocks(path: Path) -> Generator[Block, None, None]:
    """All bytes of the file in order; closing the iterator ends the thread."""
    blocks: queue.Queue[Block | BaseException | None] = queue.Queue(_BLOCKS_AHEAD)
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
        while not blocks.empty():  # a reader that waits for room sees that nobody takes more
            blocks.get_nowait()
        thread.join()


def _read(
    path: Path, blocks: "queue.Queue[Block | BaseException | None]", left: threading.Event
) -> None:
    try:
        for block in _hashed_blocks(path):
            if left.is_set():
                return
            blocks.put(block)
        blocks.put(None)
    except BaseException as error:
        blocks.put(error)


def _hashed_blocks(path: Path) -> Iterator[Block]:
    digest = hashlib.sha256()
    offset = 0
    with path.open("rb", buffering=0) as file:
        while data := file.read(BLOCK_BYTES):
            digest.update(data)
            yield Block(offset, data, Digest(offset + len(data), digest.hexdigest()))
            offset += len(data)
