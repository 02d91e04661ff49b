"""Combining many small images into one for viewing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


BACKGROUND = 255


def contact_sheet(images: "Sequence[np.ndarray]", columns: int, gap: int = 2) -> "np.ndarray":
    """Images of equal size, uint8 ``[H, W, 3]``, in rows of ``columns`` from the top left.

    ``gap`` white pixels separate them, and empty places in the last row are white too. Raises
    ``ValueError`` if there are no images.
    """
    import numpy as np

    if not images or columns < 1:
        raise ValueError(f"{len(images)} images in {columns} columns make no sheet")
    height, width, channels = images[0].shape
    rows = -(-len(images) // columns)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, channels)
    sheet = np.full(shape, BACKGROUND, np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet
