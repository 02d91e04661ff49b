"""Batches composed of several groups of images with fixed shares, each shuffled by itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.training.shuffles import BatchPlan


@dataclass(frozen=True, eq=False)
class SharingGroup:
    """The images ``indices`` int64 ``[n]`` of the data set, in the order of ``plan``, which numbers
    them from 0; ``share`` is their share of every batch."""

    indices: np.ndarray
    plan: BatchPlan
    share: float
    length: int
    """Number of images in an epoch of its own"""

    def images(self, first: int, last: int) -> np.ndarray:
        """Images ``first`` to ``last`` - 1 of the group's concatenated epochs."""
        parts = [np.empty(0, np.int64)]
        for epoch in range(first // self.length, -(-last // self.length)):
            begin = epoch * self.length
            order, _ = self.plan.epoch(epoch)
            parts.append(self.indices[order[max(0, first - begin) : last - begin]])
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class SharedShuffle:
    """Batches of blocks of ``block`` images, of one group each; ``images`` make an epoch.

    A batch holds as many blocks of a group as its share requires. If that is not a whole number,
    the count varies by one, so that the share is exact over several batches. A small group starts
    over when all its images were shown, independently of epochs.
    """

    groups: Sequence[SharingGroup]
    images: int
    batch_size: int
    seed: int
    block: int = 1
    read_ahead: int = 0

    @property
    def steps_per_epoch(self) -> int:
        return self.images // self.batch_size

    def epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        first = epoch * self.steps_per_epoch
        taken = self._taken(np.arange(first, first + self.steps_per_epoch + 1))
        random = np.random.default_rng([self.seed, epoch, 6])
        owners = self._owners(np.diff(taken, axis=0), random)
        blocks = np.empty((len(owners), self.block), np.int64)
        for number, group in enumerate(self.groups):
            begin, end = (taken[[0, -1], number] * self.block).tolist()
            blocks[owners == number] = group.images(begin, end).reshape(-1, self.block)
        return blocks.ravel(), random.random(blocks.size) < 0.5

    def _taken(self, steps: np.ndarray) -> np.ndarray:
        """int64 ``[steps, groups]``: the number of blocks of each group before these steps."""
        left, rest, taken = steps * (self.batch_size // self.block), 1.0, []
        for group in self.groups[:-1]:
            # Computed from what earlier groups leave, so that the counts never decrease.
            taken.append(np.floor(left * min(1.0, group.share / rest) + 0.5).astype(np.int64))
            left, rest = left - taken[-1], rest - group.share
        return np.stack([*taken, left], axis=1)

    def _owners(self, counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """int64 ``[blocks]``: the group of each block in random order, given ``counts`` ``[steps,
        groups]`` of each step."""
        numbers = np.tile(np.arange(len(self.groups)), len(counts))
        owners = np.repeat(numbers, counts.ravel())
        each = self.batch_size // self.block
        return random.permuted(owners.reshape(-1, each), axis=1).ravel()
