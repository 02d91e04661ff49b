"""The interface of batch plans, and the plans that show every image once an epoch.

A plan is a function of the settings, the seed and the epoch only, independent of what was read
before: a resumed training gets the same batch at step k. It is global, for any number of processes.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

CHUNK = 64
"""Consecutive images that a windowed shuffle reads at once, about half a megabyte of 112x112 JPEGs:
enough for sequential disk reads, and no more than one identity of MS1M."""


class BatchPlan(Protocol):
    """The interface of all ways to choose batches."""

    @property
    def batch_size(self) -> int:
        """Images in a global batch."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only, because batch normalisation needs equal ones."""
        ...

    @property
    def read_ahead(self) -> int:
        """How many images to prefetch at once, in store order. 0: read each image on demand."""
        ...

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The images of all steps in order, and their mirror flags."""
        ...


@dataclass(frozen=True)
class FullShuffle:
    """Every epoch is a permutation of all ``images``: the best mixing, with a seek per image."""

    images: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return self.images // self.batch_size

    @property
    def read_ahead(self) -> int:
        return 0

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([self.seed, epoch])
        return random.permutation(self.images), random.random(self.images) < 0.5


@dataclass(frozen=True, eq=False)
class WindowedShuffle:
    """For disks with slow seeks: runs of ``chunk`` images in random order, shuffled in windows.

    ``rows`` int64 [N] are the images' positions in the store. An epoch cuts the store's order into
    chunks (at different places in every epoch), shuffles the chunks, and shuffles each ``window``
    of the resulting images, so that a window is read in few sequential runs.
    """

    rows: np.ndarray
    batch_size: int
    seed: int
    window: int
    chunk: int = CHUNK

    @property
    def steps_per_epoch(self) -> int:
        return len(self.rows) // self.batch_size

    @property
    def read_ahead(self) -> int:
        return self.window

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([self.seed, epoch])
        first_cut = random.integers(1, self.chunk + 1)
        cuts = np.arange(first_cut, len(self.rows), self.chunk)
        chunks = np.split(np.argsort(self.rows, kind="stable"), cuts)
        order = np.concatenate([chunks[k] for k in random.permutation(len(chunks))])
        for begin in range(0, len(order), self.window):
            random.shuffle(order[begin : begin + self.window])
        return order, random.random(len(order)) < 0.5
