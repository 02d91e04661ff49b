"""Unlabelled images as identities of their own, for code that needs a label for every image."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from curation.image_set import ImageSet, RootStore, ViewStep
from curation.labels import UNLABELLED, each_alone


def with_each_alone(images: ImageSet) -> ImageSet:
    """``images`` with unlabelled ones as identities of one image, numbered after the others."""
    return EachAlone(images) if images.unlabelled else images


class EachAlone(ImageSet):
    """The same images, path and digest, with an identity for each unlabelled image."""

    def __init__(self, images: ImageSet) -> None:
        self.path, self.meta, self._images = images.path, images.meta, images

    def __reduce__(self) -> tuple[type["EachAlone"], tuple[ImageSet]]:  # type: ignore[override]
        return type(self), (self._images,)

    @property
    def lone(self) -> np.ndarray:
        """int64 ``[U]``: the images without a label."""
        return np.arange(len(self) - self._images.unlabelled, len(self))

    @property
    def identities(self) -> int:
        return self._images.identities + self._images.unlabelled

    @property
    def unlabelled(self) -> int:
        return 0

    @property
    def store(self) -> RootStore:
        return self._images.store

    @property
    def history(self) -> tuple[ViewStep, ...]:
        return self._images.history

    @property
    def rows(self) -> np.ndarray:
        return self._images.rows

    @cached_property
    def labels(self) -> np.ndarray:
        return each_alone(self._images.labels)

    @property
    def source_keys(self) -> np.ndarray:
        return self._images.source_keys

    @cached_property
    def source_labels(self) -> np.ndarray:
        known = self._images.source_labels
        return np.append(known, np.full(self._images.unlabelled, UNLABELLED, np.int64))

    def found(self, i: int) -> tuple[ImageSet, int]:
        return self._images.found(i)

    def _read(self, indices: np.ndarray) -> Iterator[bytes]:
        return self._images.read_many(indices)
