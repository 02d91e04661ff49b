"""Batches of decoded faces with their labels and the teacher's embeddings.

The order of an epoch and who is mirrored in it follow from (seed, epoch) alone, so a training that
was stopped asks for step k again and gets the same batch. Images are decoded by threads (libjpeg
releases the interpreter lock) straight into the batch, one batch ahead of the network.
"""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from curation.errors import UserError
from curation.images import decode
from curation.views import ImageSet
from teachers.embeddings import EmbeddingCache
from teachers.preprocessing import Preprocessing

AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """``pixels`` uint8 RGB [B, H, W, 3], ``labels`` int64 [B], ``teacher`` [B, D] or None."""

    pixels: np.ndarray
    labels: np.ndarray
    teacher: np.ndarray | None


@dataclass(frozen=True)
class Shard:
    """Which equal, contiguous part of every global batch this process takes: ``rank`` of ``ranks``.

    The plan is global, so a training resumed on another number of ranks goes on with the same
    batches.
    """

    rank: int
    ranks: int


ALONE = Shard(0, 1)


@dataclass(frozen=True)
class BatchPlan:
    """Which images and which of them mirrored, for every step of a training."""

    images: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only: batch normalisation wants them equal."""
        return self.images // self.batch_size

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order [images] and the mirror flags [images], aligned with the order."""
        random = np.random.default_rng([self.seed, epoch])
        return random.permutation(self.images), random.random(self.images) < 0.5


class BatchLoader:
    """Iterates over batches from any step on; use as a context manager to end its threads."""

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
        if plan.steps_per_epoch == 0:
            raise UserError(
                f"batch_size is {plan.batch_size} but the data set has {plan.images} images; "
                f"allowed: up to {plan.images}"
            )
        self.images, self.preprocessing, self.plan, self.cache = images, preprocessing, plan, cache
        self.shard = shard
        self.waited_seconds = 0.0
        self._decoders = ThreadPoolExecutor(threads, "decode")
        self._collector = ThreadPoolExecutor(1, "collect")

    def __enter__(self) -> "BatchLoader":
        return self

    def __exit__(self, *error: object) -> None:
        self._collector.shutdown(cancel_futures=True)
        self._decoders.shutdown(cancel_futures=True)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of the steps ``first`` to ``last`` - 1 of the whole training."""
        waiting: list[Future[Batch]] = []
        for chosen, mirrored in self._choices(first, last):
            waiting.append(self._collector.submit(self.collect, chosen, mirrored))
            if len(waiting) > AHEAD:
                yield self._wait_for(waiting.pop(0))
        for batch in waiting:
            yield self._wait_for(batch)

    def _wait_for(self, batch: Future[Batch]) -> Batch:
        began = time.monotonic()
        try:
            return batch.result()
        finally:
            self.waited_seconds += time.monotonic() - began

    def _choices(self, first: int, last: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        size, per_epoch = self.plan.batch_size, self.plan.steps_per_epoch
        order, mirrors, known = np.empty(0), np.empty(0), -1
        for step in range(first, last):
            epoch, position = divmod(step, per_epoch)
            if epoch != known:
                (order, mirrors), known = self.plan.epoch(epoch), epoch
            share = size // self.shard.ranks
            begin = position * size + self.shard.rank * share
            span = slice(begin, begin + share)
            yield order[span], mirrors[span]

    def collect(self, chosen: np.ndarray, mirrored: np.ndarray) -> Batch:
        """Decode the ``chosen`` images, mirror those flagged, and look up the teacher."""
        pixels = np.empty((len(chosen), *self.preprocessing.size, 3), np.uint8)

        def load(position: int) -> None:
            index = int(chosen[position])
            picture = decode(self.images.read(index), f"image {index} of {self.images.name}")
            if mirrored[position]:
                picture = picture[:, ::-1]
            pixels[position] = self.preprocessing.resize(picture[None])[0]

        for _ in self._decoders.map(load, range(len(chosen))):
            pass
        rows = self.images.rows[chosen]
        teacher = None if self.cache is None else self.cache.unit[rows, mirrored.astype(np.int64)]
        return Batch(pixels, self.images.labels[chosen].astype(np.int64), teacher)
