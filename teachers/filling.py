"""Filling a cache: rows are prefetched, embedded, and written in the background.

Any number of processes can fill one cache together. Each takes the next rows that are neither
computed nor claimed. Faster processes do more, late ones can join, and the others take over the
rows of a process that was killed.
"""

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from curation.bad_images import bad_image
from curation.errors import UserError
from curation.image_set import RootStore
from curation.images import count_together, decode_into
from curation.jpeg import room_for_pixels
from curation.progress import Progress
from teachers.cache_files import NORM, ROWS, UNIT
from teachers.embedder import Embedder, embed_both, unit_and_norm
from teachers.embedding_cache import EmbeddingCache
from teachers.precision import to_int8
from teachers.row_table import ArrayFile, Claims, checksums
from teachers.shared_work import SharedWork
from teachers.usable import check_embeddings

if TYPE_CHECKING:
    from teachers.augment.augmentation import NumberedView

AHEAD = 2
"""Batches prefetched while one is embedded"""
PAUSE = 0.05
"""Seconds between two checks for rows that other processes are computing"""


class RowSource(Protocol):
    """The source of raw embeddings of rows, in two steps that overlap."""

    def load(self, rows: np.ndarray) -> Any:
        """The input of ``embed`` for these rows of the store; runs ahead, in a thread."""
        ...

    def embed(self, loaded: Any) -> np.ndarray:
        """Raw embeddings float32 [rows, A, D]: upright and mirrored, or of one augmented view.

        Raises ``UserError`` if one is zero or not finite.
        """
        ...


class Pictures:
    """Decodes the images of rows, or their augmented ``view``, and embeds them.

    ``begin`` is the store's first row among the rows that the view knows.
    """

    def __init__(
        self,
        embedder: Embedder,
        store: RootStore,
        view: "NumberedView | None" = None,
        begin: int = 0,
    ) -> None:
        self.embedder, self.store, self.view, self.begin = embedder, store, view, begin

    def load(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows, and as many of their images as may be in memory together."""
        return rows, self.decoded(rows[: self._together(rows)])

    def embed(self, loaded: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        rows, pictures = loaded
        parts, together = [self._embedded(pictures)], self._together(rows)
        for first in range(together, len(rows), together):
            parts.append(self._embedded(self.decoded(rows[first : first + together])))
        raw = np.concatenate(parts)
        views = None if self.view is None else np.full(len(rows), self.view.number)
        return check_embeddings(raw, self.store, rows, views)

    def _embedded(self, pictures: np.ndarray) -> np.ndarray:
        """Raw embeddings float32 [n, A, D]."""
        if self.view is None:
            return embed_both(self.embedder, pictures)
        return self.embedder.embed(pictures)[:, None]

    def _together(self, rows: np.ndarray) -> int:
        return count_together(self.store.image_size, len(rows))

    def decoded(self, rows: np.ndarray) -> np.ndarray:
        """uint8 RGB [rows, H, W, 3], as the network sees them.

        Raises ``UserError`` with the key of a damaged image.
        """
        pictures = room_for_pixels((len(rows), *self.store.image_size, 3))
        files = self.store.read_many(rows)
        for row, file, picture in zip(rows.tolist(), files, pictures, strict=True):
            try:
                decode_into(picture, file, "the image")
            except UserError as error:
                raise bad_image(self.store, row, error) from None
        if self.view is not None:
            changes = self.view.changes(rows + self.begin)
            for picture, change in zip(pictures, changes, strict=True):
                np.copyto(picture, self.view.augmentation.view(picture, change))
        return pictures


def fill(
    cache: EmbeddingCache, missing: np.ndarray, source: RowSource, progress: Progress | None
) -> None:
    """Compute the rows where ``missing`` (bool [N]) is true, together with other processes.

    Returns when all rows are computed, by any process. ``progress`` counts the rows of all.
    """
    total = int(missing.sum())
    with CacheWriter(cache) as writer, ThreadPoolExecutor(AHEAD, "load") as loaders:
        work = SharedWork(missing, cache.table, writer.claims)

        def tell() -> None:
            if progress:
                progress(writer.written + work.by_others, total)

        ahead: deque[tuple[np.ndarray, Future[Any]]] = deque()
        while work or ahead:
            while len(ahead) < AHEAD and len(taken := work.take()):
                ahead.append((taken, loaders.submit(source.load, taken)))
            if ahead:
                taken, loaded = ahead.popleft()
                raw = source.embed(loaded.result())
                writer.write(taken, raw)
            elif work:
                time.sleep(PAUSE)
            tell()
        writer.finish()
        tell()


class CacheWriter:
    """Writes rows while the next are embedded: first their values, then their checksums."""

    def __init__(self, cache: EmbeddingCache) -> None:
        self.claims = Claims(cache.folder, cache.about.claim)
        self._precision = cache.about.precision
        self.written = 0
        """Rows that are on the disk"""
        self._unit = ArrayFile(cache.folder / UNIT, cache.unit)
        self._norm = ArrayFile(cache.folder / NORM, cache.norm)
        self._table = ArrayFile(cache.folder / ROWS, cache.table.entries)
        self._thread = ThreadPoolExecutor(1, "write")
        self._last: Future[None] | None = None

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()
        for file in (self._unit, self._norm, self._table):
            file.close()
        self.claims.close()

    def write(self, rows: np.ndarray, raw: np.ndarray) -> None:
        """Write claimed rows in the background, after waiting for earlier ones."""
        self.finish()
        self._last = self._thread.submit(self._write, rows, raw)

    def finish(self) -> None:
        """Wait until all rows are on disk; raises any error from writing."""
        if self._last is not None:
            self._last.result()

    def _write(self, rows: np.ndarray, raw: np.ndarray) -> None:
        unit, norm = unit_and_norm(raw)
        if self._precision == "int8":
            unit = to_int8(raw)
        self._unit.write(rows, unit)
        self._norm.write(rows, norm)
        self._table.write(rows, checksums(unit, norm))
        self.claims.give_back(rows)
        self.written += len(rows)
