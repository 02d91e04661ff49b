"""The views of a data set, the same for teacher and student."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curation.bad_images import bad_image
from curation.errors import UserError
from curation.images import decode_into
from curation.jpeg import room_for_pixels
from curation.views import ImageSet
from teachers.augment.drawing import Change, are_mirrored, are_mixed, draw
from teachers.augment.strengths import Strengths


class Augmentation:
    """Creates the views of the images of ``images``.

    A view is identified by its number and the row of its image in the store, so data sets of one
    store have the same views. With ``strengths.mix``, images of ``images`` are blended in, never
    other images of the store.
    """

    def __init__(self, strengths: Strengths, images: ImageSet) -> None:
        self.strengths, self.images = strengths, images

    @cached_property
    def digest(self) -> str:
        """Identifies the pixels of every view, given the images."""
        return self.strengths.digest(self.images.digest)

    def mirrored(self, rows: np.ndarray, numbers: np.ndarray | int) -> np.ndarray:
        """bool [n]: which views are mirrored, for the images in these rows of the store."""
        return are_mirrored(self.strengths.seed, self._own(rows), numbers)

    def mixed(self, rows: np.ndarray, numbers: np.ndarray | int) -> np.ndarray:
        """bool [n]: which views blend two images."""
        return are_mixed(self.strengths, self._own(rows), numbers)

    def changes(self, rows: np.ndarray, numbers: np.ndarray | int) -> list[Change]:
        """The changes to the images in these rows, for ``view``."""
        size = self.images.image_size
        return draw(self.strengths, self._own(rows), numbers, size, len(self.images))

    def view(self, picture: np.ndarray, change: Change) -> np.ndarray:
        """A view uint8 RGB [H, W, 3] of the stored image; otherwise like ``views``."""
        return self.views([picture], [change])[0]

    def views(self, pictures: Sequence[np.ndarray], changes: Sequence[Change]) -> list[np.ndarray]:
        """A view of each image; see ``teachers.augment.pictures.changed`` for the formats.

        Raises ``UserError`` if an image that is blended in is damaged.
        """
        from teachers.augment.pictures import changed  # imports OpenCV

        partners = self._partners([change.partner for change in changes])
        return changed(pictures, changes, partners)

    def _own(self, rows: np.ndarray) -> np.ndarray:
        return self.images.store.own_rows(rows)

    def _partners(self, indices: list[int]) -> list[np.ndarray | None]:
        """The images of ``images`` with these positions; None for -1."""
        files = self.images.read_many(np.array([index for index in indices if index >= 0], int))
        return [None if index < 0 else self._picture(index, next(files)) for index in indices]

    def _picture(self, index: int, data: bytes) -> np.ndarray:
        picture = room_for_pixels((*self.images.image_size, 3))
        try:
            decode_into(picture, data, "the image")
        except UserError as error:
            raise bad_image(self.images, index, error) from None
        return picture


@dataclass(frozen=True)
class NumberedView:
    """The view with this number of every image."""

    augmentation: Augmentation
    number: int

    @cached_property
    def digest(self) -> str:
        """Identifies the pixels of this view, given the images."""
        return hashlib.sha256(f"{self.augmentation.digest}|{self.number}".encode()).hexdigest()

    def changes(self, rows: np.ndarray) -> list[Change]:
        """The changes to the images in these rows of the store."""
        return self.augmentation.changes(rows, self.number)
