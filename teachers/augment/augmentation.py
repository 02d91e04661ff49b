"""The views of a data set: the same for the teacher that is asked and the student that learns."""

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
    """Makes the views of the pictures of ``images``.

    A view is known by the row of its image in its own store, so that data sets of one store have
    the same views, and its number. With ``strengths.mix`` pictures of ``images`` are blended in,
    and no others of the store.
    """

    def __init__(self, strengths: Strengths, images: ImageSet) -> None:
        self.strengths, self.images = strengths, images

    @cached_property
    def digest(self) -> str:
        """Stands for the pixels of every view, of pictures that are known."""
        return self.strengths.digest(self.images.digest)

    def mirrored(self, rows: np.ndarray, numbers: np.ndarray | int) -> np.ndarray:
        """bool [n]: which views are mirrored, of the images in these rows of the store."""
        return are_mirrored(self.strengths.seed, self._own(rows), numbers)

    def mixed(self, rows: np.ndarray, numbers: np.ndarray | int) -> np.ndarray:
        """bool [n]: which views show two pictures."""
        return are_mixed(self.strengths, self._own(rows), numbers)

    def changes(self, rows: np.ndarray, numbers: np.ndarray | int) -> list[Change]:
        """What is done to the pictures in these rows, for ``view``."""
        size = self.images.image_size
        return draw(self.strengths, self._own(rows), numbers, size, len(self.images))

    def view(self, picture: np.ndarray, change: Change) -> np.ndarray:
        """A view uint8 RGB [H, W, 3] of the picture as it is stored; otherwise as ``views``."""
        return self.views([picture], [change])[0]

    def views(self, pictures: Sequence[np.ndarray], changes: Sequence[Change]) -> list[np.ndarray]:
        """A view of each picture, as ``teachers.augment.pictures.changed`` takes and gives them.

        ``UserError`` where a picture that is blended in is damaged.
        """
        from teachers.augment.pictures import changed  # brings OpenCV

        partners = [
            None if change.partner < 0 else self._picture(change.partner) for change in changes
        ]
        return changed(pictures, changes, partners)

    def _own(self, rows: np.ndarray) -> np.ndarray:
        return self.images.store.own_rows(rows)

    def _picture(self, index: int) -> np.ndarray:
        picture = room_for_pixels((*self.images.image_size, 3))
        try:
            decode_into(picture, self.images.read(index), "the image")
        except UserError as error:
            raise bad_image(self.images, index, error) from None
        return picture


@dataclass(frozen=True)
class NumberedView:
    """The view of this number of every image."""

    augmentation: Augmentation
    number: int

    @cached_property
    def digest(self) -> str:
        """Stands for the pixels of this view, of pictures that are known."""
        return hashlib.sha256(f"{self.augmentation.digest}|{self.number}".encode()).hexdigest()

    def changes(self, rows: np.ndarray) -> list[Change]:
        """What is done to the pictures in these rows of the store."""
        return self.augmentation.changes(rows, self.number)
