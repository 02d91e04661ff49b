"""The view that each image shows in each epoch."""

from dataclasses import dataclass

import numpy as np

from distill.training.augment import PLAIN_SHARE_OF_FRESH, AugmentSettings
from teachers.augment.augmentation import Augmentation
from teachers.augment.drawing import hashes, uniform

PLAIN = -1
"""Instead of the number of an augmented view: the image or its mirror image."""
_REPEAT_OFFSET = 1 << 32
"""Offset between fresh views of repeats within an epoch; larger than any number of epochs."""


@dataclass(frozen=True)
class ViewChoice:
    """The view that each image shows, as a function of (seed, epoch, image).

    An image goes through a cycle of epochs in which it shows each augmented view once, and the
    plain image as often as its share requires. Every cycle has a different order, and each image
    starts at a different position in it.
    """

    settings: AugmentSettings
    seed: int

    def numbers(self, epoch: int, rows: np.ndarray, repeats: np.ndarray) -> np.ndarray:
        """int64 [n]: the numbers of augmented views, or PLAIN, for the images in these rows.

        ``repeats`` int64 [n] is how often the image was already shown in the same epoch.
        """
        if self.settings.augmented is None:
            return self._fresh(epoch, rows, repeats)
        plain_slots = self.settings.plain_slots
        length = plain_slots + self.settings.augmented
        cycle, place = divmod(epoch, length)
        order = np.random.default_rng([self.seed, cycle, 4]).permutation(length)
        begins = hashes(self.seed, rows, cycle) % np.uint64(length)
        slots = order[(begins.astype(np.int64) + place + repeats) % length]
        return np.where(slots < plain_slots, PLAIN, slots - plain_slots)

    def _fresh(self, epoch: int, rows: np.ndarray, repeats: np.ndarray) -> np.ndarray:
        share = PLAIN_SHARE_OF_FRESH if self.settings.plain is None else self.settings.plain
        numbers = epoch + _REPEAT_OFFSET * repeats
        is_plain = uniform(hashes(self.seed, rows, numbers, 5)) < share
        return np.where(is_plain, PLAIN, numbers)


@dataclass(frozen=True)
class ShownViews:
    """The views that a batch shows: int64 and bool [B].

    ``rows`` are the images' positions in the store, ``numbers`` those of the augmented views or
    PLAIN. An image that is ``mixed`` does not count as the identity of the plain image.
    """

    rows: np.ndarray
    numbers: np.ndarray
    mirrored: np.ndarray
    mixed: np.ndarray

    def part(self, span: slice) -> "ShownViews":
        """A part of the batch; shares memory with this object."""
        return ShownViews(
            self.rows[span], self.numbers[span], self.mirrored[span], self.mixed[span]
        )


@dataclass(frozen=True)
class StudentViews:
    """The views of a data set, and the schedule in which a training shows them."""

    augmentation: Augmentation
    choice: ViewChoice

    @property
    def mixes(self) -> bool:
        """Whether any view combines two images."""
        return self.augmentation.strengths.mix > 0

    def shown(
        self, epoch: int, rows: np.ndarray, repeats: np.ndarray, mirrored: np.ndarray
    ) -> ShownViews:
        """The views of images in an epoch; ``mirrored`` applies to those that show the plain image.

        See ``ViewChoice.numbers`` for the other arguments.
        """
        numbers = self.choice.numbers(epoch, rows, repeats)
        augmented = numbers != PLAIN
        return ShownViews(
            rows,
            numbers,
            np.where(augmented, self.augmentation.mirrored(rows, numbers), mirrored),
            augmented & self.augmentation.mixed(rows, numbers),
        )


def label_weights(unlabelled: np.ndarray) -> np.ndarray:
    """float32 [B], with mean 1 (or all 0): 0 for ``unlabelled`` images, equal for all others."""
    labelled = ~unlabelled
    return (labelled * (len(unlabelled) / max(1, labelled.sum()))).astype(np.float32)


def stand_ins(labels: np.ndarray) -> np.ndarray:
    """``labels`` int64 [B] with missing ones (-1) replaced by a label of the batch.

    Losses look up the class weight of every image, including those that do not count.
    """
    unlabelled = labels < 0
    return np.where(unlabelled, labels.max(initial=0), labels) if unlabelled.any() else labels


def shown_before(order: np.ndarray) -> np.ndarray:
    """int64 [n]: how often each image of ``order`` int64 [n] occurs before its position."""
    before = np.zeros(len(order), np.int64)
    if len(order) and np.bincount(order).max() > 1:
        by_image = np.argsort(order, kind="stable")
        images = order[by_image]
        begins = np.flatnonzero(np.diff(images, prepend=images[0] - 1))
        sizes = np.diff(begins, append=len(order))
        before[by_image] = np.arange(len(order)) - np.repeat(begins, sizes)
    return before
