"""Batches of decoded faces with their labels and the teacher's embeddings.

Images are decoded by threads (libjpeg releases the interpreter lock) into the batch, some batches
ahead of the network. Which images, the plan says.
"""

import math
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from curation.bad_images import bad_image
from curation.errors import UserError
from curation.images import count_together
from curation.views import ImageSet
from distill.training.decoding import decode_into
from distill.training.plan import BatchPlan
from distill.training.read_ahead import ReadAhead
from teachers.embedding_cache import EmbeddingCache
from teachers.preprocessing import Preprocessing

AHEAD = 2
"""Batches being decoded while the network is at one"""


@dataclass(frozen=True)
class Batch:
    """``pixels`` uint8 RGB [B, H, W, 3], ``labels`` int64 [B], ``teacher`` [B, D] or None.

    ``indices`` int64 [B] are the images' places in the image set.
    """

    pixels: np.ndarray
    labels: np.ndarray
    teacher: np.ndarray | None
    indices: np.ndarray


@dataclass(frozen=True)
class Shard:
    """Which equal, contiguous part of every global batch this process takes: ``rank`` of ``ranks``.

    The plan is global, so a training resumed on another number of ranks goes on with the same
    batches.
    """

    rank: int
    ranks: int


ALONE = Shard(0, 1)


class BatchLoader:
    """Iterates over batches from any step on; use as a context manager to end its threads.

    May be made before a fork and used after it: threads start in the process that asks for batches.
    ``waited_seconds`` grows by the time that the consumer has waited for batches.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocessing: Preprocessing,
        plan: BatchPlan,
        cache: EmbeddingCache | None = None,
        threads: int = 2,
        shard: Shard = ALONE,
    ) -> None:
        if plan.batch_size % shard.ranks:
            raise UserError(
                f"train.batch_size is {plan.batch_size}, which cannot be shared equally by "
                f"{shard.ranks} processes; take a multiple of {shard.ranks}"
            )
        self.images, self.preprocessing, self.plan, self.cache = images, preprocessing, plan, cache
        self.threads, self.shard = threads, shard
        self.waited_seconds = 0.0
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def __enter__(self) -> "BatchLoader":
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None and self._process == os.getpid():
            self._pool.shutdown(cancel_futures=True)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """This shard's part of the steps ``first`` to ``last`` - 1 of the whole training."""
        ready = self._ready(first, last)
        while True:
            began = time.monotonic()
            batch = next(ready, None)
            self.waited_seconds += time.monotonic() - began
            if batch is None:
                return
            yield batch

    def _ready(self, first: int, last: int) -> Iterator[Batch]:
        waiting: deque[tuple[Batch, list[Future[None]]]] = deque()
        try:
            for chosen, mirrored in self._choices(first, last):
                waiting.append(self._start(chosen, mirrored))
                if len(waiting) > AHEAD:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        finally:
            for _, tasks in waiting:
                for task in tasks:
                    task.cancel()

    def _choices(self, first: int, last: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """This shard's images and mirror flags of each step."""
        size, per_epoch = self.plan.batch_size, self.plan.steps_per_epoch
        share = size // self.shard.ranks
        order, mirrors, known = np.empty(0, np.int64), np.empty(0, bool), -1
        reading = ReadAhead(self.images, self.plan, first, last) if self.plan.read_ahead else None
        for step in range(first, last):
            epoch, position = divmod(step, per_epoch)
            if epoch != known:
                (order, mirrors), known = self.plan.epoch(epoch), epoch
            if reading is not None:
                reading.reach(step)
            begin = position * size + self.shard.rank * share
            yield order[begin : begin + share], mirrors[begin : begin + share]

    def _start(self, chosen: np.ndarray, mirrored: np.ndarray) -> tuple[Batch, list[Future[None]]]:
        """A batch, and the tasks that fill it."""
        count, cache = len(chosen), self.cache
        batch = Batch(
            pixels=np.empty((count, *self.preprocessing.size, 3), np.uint8),
            labels=self.images.labels[chosen].astype(np.int64),
            teacher=None if cache is None else np.empty((count, cache.embedding), cache.unit.dtype),
            indices=chosen,
        )
        share, pool = math.ceil(count / self.threads), self._decoders()
        spans = [slice(begin, begin + share) for begin in range(0, count, share)]
        return batch, [pool.submit(self._fill, batch, mirrored, span) for span in spans]

    def _fill(self, batch: Batch, mirrored: np.ndarray, span: slice) -> None:
        """Decode the images of ``span`` and look up what the teacher said of them."""
        chosen, flips = batch.indices[span], mirrored[span]
        if batch.teacher is not None and self.cache is not None:
            stored = self.images.rows[chosen]
            batch.teacher[span] = self.cache.unit[stored, flips.astype(np.int64)]
        size = self.images.image_size
        resizes = size != self.preprocessing.size
        scratch = np.empty((*size, 3), np.uint8)
        files = self.images.read_many(chosen)
        rows = zip(batch.pixels[span], files, flips.tolist(), chosen.tolist(), strict=True)
        for row, data, flip, index in rows:
            target = scratch if resizes else row
            try:
                decode_into(target, data, flip, "the image")
            except UserError as error:
                raise bad_image(self.images, index, error) from None
            if resizes:
                np.copyto(row, self.preprocessing.resize(scratch[None])[0])

    def _decoders(self) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid():
            # Each thread may hold a picture as large as it is stored.
            together = count_together(self.images.image_size, self.threads)
            self._pool, self._process = ThreadPoolExecutor(together, "decode"), os.getpid()
        return self._pool


def _finished(batch: Batch, tasks: list[Future[None]]) -> Batch:
    for task in tasks:
        task.result()
    return batch
