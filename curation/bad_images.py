"""Images of a store or view that cannot be decoded: which they are, and what helps."""

from typing import TYPE_CHECKING

from curation.errors import UserError
from curation.images import decode
from curation.store import ImageSet

if TYPE_CHECKING:
    import numpy as np


def read_pixels(images: ImageSet, i: int) -> "np.ndarray":
    """Pixels of image ``i``, uint8 RGB ``[H, W, 3]``; ``UserError`` as of ``bad_image``."""
    try:
        return decode(images.read(i), "the image")
    except UserError as error:
        raise bad_image(images, i, error) from None


def bad_image(images: ImageSet, i: int, reason: UserError) -> UserError:
    """The error for image ``i``: its key in the source, the reason, and how to leave it out."""
    return UserError(
        f"{images.path}: image {i} (key {int(images.source_keys[i])}): {reason}; `curate verify "
        f"{images.path} --decode` lists all bad images, `curate view drop` with --by key makes a "
        "view without them"
    )
