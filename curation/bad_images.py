"""Bad images of a store, view or record file: a list of them, and advice."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.images import decode
from curation.printable import argument

if TYPE_CHECKING:
    import numpy as np

SHOWN = 1000
"""Maximum number of bad images kept in memory and shown; a list file has all of them"""


def read_pixels(images: ImageSet, i: int) -> "np.ndarray":
    """Pixels of image ``i``, uint8 RGB ``[H, W, 3]``; raises the error of ``bad_image``."""
    try:
        return decode(images.read(i), "the image")
    except UserError as error:
        raise bad_image(images, i, error) from None


def bad_image(images: ImageSet, i: int, reason: UserError) -> UserError:
    """The error for image ``i``: its key in the source, the reason, and how to exclude it."""
    path = images.found(i)[0].path
    return UserError(
        f"{image_name(images, i)}: {reason}; `curate verify {argument(path)} --decode` lists all "
        "bad images, `curate view drop --by key` makes a view without them"
    )


def image_name(images: ImageSet, i: int) -> str:
    """Image ``i`` in an error: its set, its position there, and its key in the source."""
    images, i = images.found(i)
    return f"{images.path}: image {i} (key {int(images.source_keys[i])})"


@dataclass
class BadImages:
    """Collects bad images: their total, the first of them, and a file with all.

    ``list_file`` gets one line per image, in the format of ``curate view drop --by key``.
    """

    list_file: BinaryIO | None = None
    count: int = 0
    first: list[dict[str, Any]] = field(default_factory=list)

    def add(self, key: int | None, reason: str, **place: int) -> None:
        """Add an image; ``place`` is its location, such as ``image=7``."""
        self.count += 1
        if len(self.first) < SHOWN:
            self.first.append({**place, "key": key, "reason": reason})
        if self.list_file is not None:
            where = ", ".join(f"{name} {number}" for name, number in place.items())
            line = f"{'' if key is None else key} # {where}: {' '.join(reason.split())}\n"
            self.list_file.write(line.lstrip().encode())
