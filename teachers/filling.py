"""Filling a cache: blocks are read ahead, embedded, and written behind.

Any number of processes fill one cache together. Each takes the next block that is neither computed
nor claimed, so a fast one does more, one that joins late helps, and what a killed one had begun is
taken over by the others.
"""

import os
import time
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from curation.errors import UserError
from curation.images import decode
from curation.progress import Progress
from curation.store import Store
from teachers.block_table import BlockTable, Claims
from teachers.embedder import Embedder, embed_both, unit_and_norm

UNIT, NORM = "unit.npy", "norm.npy"
AHEAD = 2
"""Blocks in memory before the one that is embedded."""
PAUSE = 0.05
"""Seconds between two looks at blocks that other processes are computing."""


class BlockSource(Protocol):
    """Where the raw embeddings of a block come from, in two steps that overlap."""

    def load(self, rows: slice) -> np.ndarray:
        """What ``embed`` needs for these rows of the store; runs ahead, in a thread."""
        ...

    def embed(self, loaded: np.ndarray) -> np.ndarray:
        """Raw embeddings float32 [rows, 2, D], upright and mirrored."""
        ...


class Pictures:
    """The block's images decoded, then through a network."""

    def __init__(self, embedder: Embedder, store: Store) -> None:
        self.embedder, self.store = embedder, store

    def load(self, rows: slice) -> np.ndarray:
        """uint8 RGB [rows, H, W, 3]."""
        pictures = [decode(self.store.read(i), f"image {i}") for i in range(rows.start, rows.stop)]
        if len({picture.shape for picture in pictures}) > 1:
            raise UserError(
                f"images {rows.start}..{rows.stop - 1} differ in size; a store needs one"
            )
        return np.stack(pictures)

    def embed(self, loaded: np.ndarray) -> np.ndarray:
        return embed_both(self.embedder, loaded)


def checksum(unit: np.ndarray, norm: np.ndarray) -> int:
    """The CRC-32 of a block's rows."""
    return zlib.crc32(norm.tobytes(), zlib.crc32(unit.tobytes()))


def fill(
    folder: Path,
    table: BlockTable,
    blocks: np.ndarray,
    source: BlockSource,
    progress: Progress | None,
) -> None:
    """Compute what is missing of ``blocks``, together with whatever process does the same.

    Returns when all are computed, by whomever. ``progress`` counts the blocks of all processes.
    """
    left, total = blocks.tolist(), len(blocks)

    def tell() -> None:
        if progress:
            progress(total - len(table.missing(blocks)), total)

    with (
        _Writer(folder, table) as writer,
        ThreadPoolExecutor(AHEAD, "load") as loaders,
    ):
        ahead: deque[tuple[int, Future[np.ndarray]]] = deque()
        while left or ahead:
            while len(ahead) < AHEAD and (block := _next(left, table, writer.claims)) is not None:
                ahead.append((block, loaders.submit(source.load, table.rows(block))))
            if ahead:
                block, loaded = ahead.popleft()
                raw = source.embed(loaded.result())
                _check(raw, table.rows(block))
                writer.write(block, raw)
            else:
                time.sleep(PAUSE)
            tell()
        writer.finish()
        tell()


def _next(left: list[int], table: BlockTable, claims: Claims) -> int | None:
    """Take the first block out of ``left`` that can be claimed; drop the computed before it."""
    for block in tuple(left):
        if table.is_computed(block):
            left.remove(block)
        elif claims.take(block):
            left.remove(block)
            if not table.is_computed(block):
                return block
            claims.give_back(block)  # finished between the look and the claim
    return None


def _check(raw: np.ndarray, rows: slice) -> None:
    bad = ~np.isfinite(raw).all(axis=(1, 2)) | (np.linalg.norm(raw, axis=2) == 0).any(axis=1)
    if bad.any():
        raise UserError(
            f"the teacher's embedding of image {rows.start + int(np.argmax(bad))} is zero or not "
            "finite; check the teacher's preprocessing (colour, mean, std) and its weights"
        )


class _Writer:
    """Writes one block while the next is embedded: rows first, on the disk, then the table."""

    def __init__(self, folder: Path, table: BlockTable) -> None:
        self.claims = Claims(folder)
        self._table = table
        self._files = [_ArrayFile(folder / name) for name in (UNIT, NORM)]
        self._thread = ThreadPoolExecutor(1, "write")
        self._last: Future[None] | None = None

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()
        for file in self._files:
            file.close()
        self.claims.close()

    def write(self, block: int, raw: np.ndarray) -> None:
        """Write a claimed block behind; waits for the one before."""
        self.finish()
        self._last = self._thread.submit(self._write, block, raw)

    def finish(self) -> None:
        """Wait until what was given is on the disk; raises what went wrong with it."""
        if self._last is not None:
            self._last.result()

    def _write(self, block: int, raw: np.ndarray) -> None:
        unit, norm = unit_and_norm(raw)
        for file, values in zip(self._files, (unit, norm), strict=True):
            file.write(self._table.rows(block).start, values)
        self._table.enter(block, checksum(unit, norm))
        self.claims.give_back(block)


class _ArrayFile:
    """A ``.npy`` file written row by row, so that no memory is mapped that grows with it."""

    def __init__(self, path: Path) -> None:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        self._begin, self._row = array.offset, array.strides[0]
        self._descriptor = os.open(path, os.O_RDWR)

    def write(self, first: int, rows: np.ndarray) -> None:
        """Put ``rows`` at row ``first`` and wait until the disk has them."""
        content = memoryview(rows.tobytes())
        position = self._begin + first * self._row
        while content:
            written = os.pwrite(self._descriptor, content, position)
            content, position = content[written:], position + written
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
