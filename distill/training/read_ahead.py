"""Prefetching of coming images into the page cache in sequential runs."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from curation.views import ImageSet
from distill.training.shuffles import BatchPlan

GAP = 64
"""Gaps of up to this many images are read instead of skipped"""


class ReadAhead:
    """Fetches the windows of the steps ``first`` to ``last`` - 1, one window ahead, in a thread.

    A window is ``plan.read_ahead`` images of an epoch's order; the last of an epoch may be shorter.
    """

    def __init__(self, images: ImageSet, plan: BatchPlan, first: int, last: int) -> None:
        self._images, self._plan = images, plan
        self._per_epoch = math.ceil(plan.steps_per_epoch * plan.batch_size / plan.read_ahead)
        begin = self._window_of(first, 0)
        self._coming = self._windows(begin, self._window_of(last - 1, plan.batch_size - 1) + 1)
        self._fetched = begin
        self._thread = ThreadPoolExecutor(1, "read-ahead")
        self._fetching = self._thread.submit(self._fetch_next)

    def reach(self, step: int) -> None:
        """Wait until all files of ``step`` are being read, and request the next window."""
        while self._fetched <= self._window_of(step, self._plan.batch_size - 1):
            self._fetching.result()
            self._fetched += 1
            self._fetching = self._thread.submit(self._fetch_next)

    def _window_of(self, step: int, image: int) -> int:
        """The window, counted over all epochs, of the ``image``-th image of a global batch."""
        epoch, position = divmod(step, self._plan.steps_per_epoch)
        within = position * self._plan.batch_size + image
        return epoch * self._per_epoch + within // self._plan.read_ahead

    def _windows(self, first: int, last: int) -> Iterator[np.ndarray]:
        size, order, known = self._plan.read_ahead, np.empty(0, np.int64), -1
        for window in range(first, last):
            epoch, number = divmod(window, self._per_epoch)
            if epoch != known:
                (order, _), known = self._plan.epoch(epoch), epoch
            yield order[number * size : (number + 1) * size]

    def _fetch_next(self) -> None:
        window = next(self._coming, None)
        if window is not None:
            for first, last in sequential_runs(self._images.rows[window]):
                self._images.store.read_ahead(first, last)


def sequential_runs(rows: np.ndarray, gap: int = GAP) -> list[tuple[int, int]]:
    """Sorted ``rows`` as runs (first, last), merged across gaps of at most ``gap`` rows."""
    ordered = np.sort(rows)
    ends = np.flatnonzero(np.diff(ordered) > gap + 1)
    firsts, lasts = ordered[np.r_[0, ends + 1]], ordered[np.r_[ends, len(ordered) - 1]]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))
