"""What a source holds, without converting it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from curation.conversion.image_check import ImageCheck, good_images
from curation.errors import UserError
from curation.progress import Progress
from curation.sources.image_source import ImageSource
from curation.sources.quarantine import OnBad, stop_at


@dataclass(frozen=True)
class Scan:
    """The images of a source that are good, in its order."""

    keys: np.ndarray
    """int64 ``[N]``: record keys"""
    labels: np.ndarray
    """int64 ``[N]``: identity labels"""
    image_size: tuple[int, int]
    """(height, width)"""
    encoding: Literal["jpeg", "png", "mixed"]
    digest: str
    """SHA-256 of the source"""


def scan_source(
    source: ImageSource, progress: Progress | None = None, on_bad: OnBad = stop_at
) -> Scan:
    """Read the source once and check every image as a conversion would.

    Raises ``UserError`` at the first record that is bad, unless ``on_bad`` returns.
    """
    check = ImageCheck(source.stated_image_size())
    keys, labels = [], []
    for images in source.images(on_bad, progress=progress):
        good = good_images(images, check, source, on_bad)
        keys.append(good.keys)
        labels.append(good.labels)
    if check.image_size is None or not sum(map(len, keys)):
        raise UserError(f"{source.path} holds no good images")
    return Scan(
        np.concatenate(keys),
        np.concatenate(labels),
        check.image_size,
        check.encoding,
        source.digest.hex,
    )
