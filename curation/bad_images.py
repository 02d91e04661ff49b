"""Bad images of a store, view or record file: which they are, and what helps."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from curation.errors import UserError
from curation.images import decode
from curation.store import ImageSet

if TYPE_CHECKING:
    import numpy as np

SHOWN = 1000
"""Bad images that are kept in memory and told; a list file has them all"""


def read_pixels(images: ImageSet, i: int) -> "np.ndarray":
    """Pixels of image ``i``, uint8 RGB ``[H, W, 3]``; ``UserError`` as of ``bad_image``."""
    try:
        return decode(images.read(i), "the image")
    except UserError as error:
        raise bad_image(images, i, error) from None


def bad_image(images: ImageSet, i: int, reason: UserError) -> UserError:
    """The error for image ``i``: its key in the source, the reason, and how to leave it out."""
    images, i = images.found(i)
    return UserError(
        f"{images.path}: image {i} (key {int(images.source_keys[i])}): {reason}; `curate verify "
        f"{images.path} --decode` lists all bad images, `curate view drop --by key` makes a view "
        f"without them"
    )


@dataclass
class BadImages:
    """Bad images as they are found: the number of all, the first of them, and a file for the rest.

    ``list_file`` gets a line of each, as ``curate view drop --by key`` reads it.
    """

    list_file: BinaryIO | None = None
    count: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)

    def add(self, key: int | None, reason: str, **place: int) -> None:
        """One more; ``place`` says where it is, such as ``image=7``."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append({**place, "key": key, "reason": reason})
        if self.list_file is not None:
            where = ", ".join(f"{name} {number}" for name, number in place.items())
            line = f"{'' if key is None else key} # {where}: {' '.join(reason.split())}\n"
            self.list_file.write(line.lstrip().encode())
