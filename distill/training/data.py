"""Batches of decoded faces or their augmented views, with labels and teacher embeddings.

Threads decode and augment the images (libjpeg and OpenCV release the GIL) directly into the batch,
a few batches ahead of the network. The plan chooses the images.
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
from curation.jpeg import room_for_pixels
from curation.views import ImageSet
from distill.training.answers import CachedAnswers, OnlineAnswers, cosines
from distill.training.decoding import decode_into
from distill.training.read_ahead import ReadAhead
from distill.training.shuffles import BatchPlan
from distill.training.views import (
    PLAIN,
    ShownViews,
    StudentViews,
    label_weights,
    shown_before,
    stand_ins,
)
from teachers.augment.drawing import NO_CHANGE, Change
from teachers.preprocessing import Preprocessing

AHEAD = 2
"""Batches being decoded while the network processes one"""
GROUP = 16
"""Images that a thread decodes and augments together: as many as fit into its cache"""


@dataclass(frozen=True)
class Batch:
    """``pixels`` uint8 RGB [B, H, W, 3], ``labels`` int64 [B], ``teacher`` [B, D] or None.

    ``indices`` int64 [B] are positions in the image set. ``label_weights`` float32 [B] are those of
    ``LossInputs``; None if no images are mixed and every image has a label.
    """

    pixels: np.ndarray
    labels: np.ndarray
    teacher: np.ndarray | None
    indices: np.ndarray
    label_weights: np.ndarray | None = None


@dataclass(frozen=True)
class Shard:
    """The equal, contiguous part of every global batch that this process takes: ``rank`` of
    ``ranks``.

    The plan is global, so a training resumed on a different number of ranks sees the same batches.
    """

    rank: int
    ranks: int


ALONE = Shard(0, 1)


class BatchLoader:
    """Iterates over batches from any step on; use it as a context manager to stop its threads.

    It may be created before a fork and used after it: threads start in the process that requests
    batches. ``waited_seconds`` is the total time that the consumer waited for images. An online
    teacher runs in the consumer.
    """

    def __init__(
        self,
        images: ImageSet,
        preprocessing: Preprocessing,
        plan: BatchPlan,
        answers: CachedAnswers | OnlineAnswers | None = None,
        threads: int = 2,
        shard: Shard = ALONE,
        views: StudentViews | None = None,
    ) -> None:
        if plan.batch_size % shard.ranks:
            raise UserError(
                f"train.batch_size is {plan.batch_size}, which cannot be shared equally by "
                f"{shard.ranks} processes; allowed: multiples of {shard.ranks}"
            )
        self.images, self.preprocessing, self.plan = images, preprocessing, plan
        self.answers, self.views = answers, views
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
            filling = next(ready, None)
            self.waited_seconds += time.monotonic() - began
            if filling is None:
                return
            yield self._with_teacher(filling)

    def _ready(self, first: int, last: int) -> Iterator["_Filling"]:
        waiting: deque[tuple[_Filling, list[Future[None]]]] = deque()
        try:
            for chosen in self._choices(first, last):
                waiting.append(self._start(chosen))
                if len(waiting) > AHEAD:
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())
        finally:
            for _, tasks in waiting:
                for task in tasks:
                    task.cancel()

    def _choices(self, first: int, last: int) -> Iterator["_Chosen"]:
        """This shard's images of each step."""
        size, per_epoch = self.plan.batch_size, self.plan.steps_per_epoch
        share = size // self.shard.ranks
        epochs = _Epochs(self.plan, self.views is not None)
        reading = ReadAhead(self.images, self.plan, first, last) if self.plan.read_ahead else None
        own = slice(self.shard.rank * share, (self.shard.rank + 1) * share)
        for step in range(first, last):
            epoch, position = divmod(step, per_epoch)
            epochs.go_to(epoch)
            if reading is not None:
                reading.reach(step)
            everywhere = slice(position * size, (position + 1) * size)
            order, mirrored = epochs.order[everywhere], epochs.mirrored[everywhere]
            rows, labels = self.images.rows[order], self.images.labels[order].astype(np.int64)
            if self.views is None:
                none = np.zeros(size, bool)
                shown = ShownViews(rows, np.full(size, PLAIN), mirrored, none)
            else:
                shown = self.views.shown(epoch, rows, epochs.repeats[everywhere], mirrored)
            weights = None
            if self.images.unlabelled or (self.views is not None and self.views.mixes):
                # Weights are computed from the global batch: all ranks must agree on them.
                weights = label_weights(shown.mixed | (labels < 0))[own]
            yield _Chosen(order[own], shown.part(own), stand_ins(labels)[own], weights)

    def _start(self, chosen: "_Chosen") -> tuple["_Filling", list[Future[None]]]:
        """A batch, and the tasks that will fill it."""
        indices = chosen.indices
        count, answers, is_online = (
            len(indices),
            self.answers,
            isinstance(self.answers, OnlineAnswers),
        )
        pixels = room_for_pixels((count, *self.preprocessing.size, 3))
        batch = Batch(
            pixels=pixels,
            labels=chosen.labels,
            teacher=None if answers is None else np.empty((count, answers.embedding), np.float16),
            indices=indices,
            label_weights=chosen.label_weights,
        )
        filling = _Filling(batch, chosen.shown, self._empty_pixels(count) if is_online else None)
        share, pool = math.ceil(count / self.threads), self._decoders()
        spans = [slice(begin, begin + share) for begin in range(0, count, share)]
        return filling, [pool.submit(self._fill, filling, span) for span in spans]

    def _empty_pixels(self, count: int) -> np.ndarray:
        return np.empty((count, *self.images.image_size, 3), np.uint8)

    def _fill(self, filling: "_Filling", span: slice) -> None:
        """Produce the images of ``span`` and look up their teacher embeddings."""
        shown = filling.shown.part(span)
        if isinstance(self.answers, CachedAnswers):
            assert filling.batch.teacher is not None
            filling.batch.teacher[span] = self.answers.look_up(shown)
        rows = filling.batch.pixels[span]
        for row, picture, place in self._pictures(filling.batch.indices[span], shown, rows):
            if filling.teacher_pixels is not None:
                np.copyto(filling.teacher_pixels[span.start + place], picture)
            if picture is not row:
                np.copyto(row, self.preprocessing.resize(picture[None])[0])

    def _pictures(
        self, indices: np.ndarray, shown: ShownViews, rows: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """For each of ``rows``: the target row, the image at the store's size, and its number.

        The image is the target row itself if no processing remains.
        """
        changes, size = self._changes(shown), self.images.image_size
        files, indices = iter(self.images.read_many(indices)), indices.tolist()
        # Each thread holds this many images.
        group = max(1, count_together(size, GROUP * self.threads) // self.threads)
        scratch, with_alpha = (room_for_pixels((group, *size, depth)) for depth in (3, 4))
        resizes = size != self.preprocessing.size
        for first in range(0, len(rows), group):
            span = slice(first, min(first + group, len(rows)))
            places = range(span.start, span.stop)
            pictures = [
                with_alpha[place - first]
                if changes[place].motion is not None
                else scratch[place - first]
                if resizes or changes[place] is not NO_CHANGE
                else rows[place]
                for place in places
            ]
            for place, picture in zip(places, pictures, strict=True):
                mirrors = bool(shown.mirrored[place]) and changes[place] is NO_CHANGE
                self._decode(picture, next(files), mirrors, indices[place])
            if self.views is not None:
                pictures = self.views.augmentation.views(pictures, changes[span])
            yield from zip(rows[span], pictures, places, strict=True)

    def _decode(self, target: np.ndarray, data: bytes, mirrored: bool, index: int) -> None:
        try:
            decode_into(target, data, mirrored, "the image")
        except UserError as error:
            raise bad_image(self.images, index, error) from None

    def _changes(self, shown: ShownViews) -> list[Change]:
        """The change to each image of a part of a batch."""
        augmented = np.flatnonzero(shown.numbers != PLAIN)
        changes = [NO_CHANGE] * len(shown.numbers)
        if self.views is not None and len(augmented):
            drawn = self.views.augmentation.changes(shown.rows[augmented], shown.numbers[augmented])
            for place, change in zip(augmented.tolist(), drawn, strict=True):
                changes[place] = change
        return changes

    def _with_teacher(self, filling: "_Filling") -> Batch:
        """The batch with teacher embeddings, computed now if they were not looked up."""
        batch, shown = filling.batch, filling.shown
        if filling.teacher_pixels is None:
            return batch
        assert isinstance(self.answers, OnlineAnswers)
        assert batch.teacher is not None
        arguments = (filling.teacher_pixels, self.images, batch.indices, shown.numbers)
        batch.teacher[:] = self.answers.embed(*arguments)
        augmented = np.flatnonzero((shown.numbers != PLAIN) & ~shown.mixed)
        if self.answers.least_cosine > -1 and len(augmented):
            self._replace_distant_views(batch, shown, augmented)
        return batch

    def _replace_distant_views(
        self, batch: Batch, shown: ShownViews, augmented: np.ndarray
    ) -> None:
        """Show the plain image instead of those ``augmented`` whose embedding is too distant."""
        assert isinstance(self.answers, OnlineAnswers)
        assert batch.teacher is not None
        none = np.zeros(len(augmented), bool)
        plain_views = ShownViews(
            shown.rows[augmented], np.full(len(augmented), PLAIN), shown.mirrored[augmented], none
        )
        pixels = self._empty_pixels(len(augmented))
        for _, picture, place in self._pictures(batch.indices[augmented], plain_views, pixels):
            np.copyto(pixels[place], picture)
        answers = self.answers.embed(
            pixels, self.images, batch.indices[augmented], plain_views.numbers
        )
        too_far = cosines(batch.teacher[augmented], answers) < self.answers.least_cosine
        batch.teacher[augmented[too_far]] = answers[too_far]
        shown.numbers[augmented[too_far]] = PLAIN
        if too_far.any():
            batch.pixels[augmented[too_far]] = self.preprocessing.resize(pixels[too_far])

    def _decoders(self) -> ThreadPoolExecutor:
        if self._pool is None or self._process != os.getpid():
            # Each thread may hold an image at its stored size.
            together = count_together(self.images.image_size, self.threads)
            self._pool, self._process = ThreadPoolExecutor(together, "decode"), os.getpid()
        return self._pool


@dataclass(frozen=True)
class _Chosen:
    """This shard's images of a step, their views, labels and label weights."""

    indices: np.ndarray
    shown: ShownViews
    labels: np.ndarray
    label_weights: np.ndarray | None


@dataclass(frozen=True)
class _Filling:
    """A batch in progress; ``teacher_pixels`` uint8 [B, H, W, 3] are the images that an online
    teacher still has to embed, None without one."""

    batch: Batch
    shown: ShownViews
    teacher_pixels: np.ndarray | None


class _Epochs:
    """The order of one epoch of a plan at a time."""

    def __init__(self, plan: BatchPlan, count_repeats: bool) -> None:
        self._plan, self._count_repeats, self._known = plan, count_repeats, -1
        self.order, self.mirrored = np.empty(0, np.int64), np.empty(0, bool)
        self.repeats = np.empty(0, np.int64)

    def go_to(self, epoch: int) -> None:
        """Set ``order``, ``mirrored`` and ``repeats`` (``shown_before``) to those of the epoch."""
        if epoch == self._known:
            return
        (self.order, self.mirrored), self._known = self._plan.epoch(epoch), epoch
        if self._count_repeats:
            self.repeats = shown_before(self.order)


def _finished(filling: _Filling, tasks: list[Future[None]]) -> _Filling:
    for task in tasks:
        task.result()
    return filling
