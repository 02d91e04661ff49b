"""Whether images can be decoded: all of them, on all cores."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from curation.errors import UserError
from curation.images import decode_into


class DecodeCheck:
    """Decodes images and forgets the pixels; its threads end with it."""

    def __init__(self) -> None:
        self._threads = len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._threads, "decode")

    def objections(
        self, images: Sequence[bytes | memoryview], which: Sequence[int], size: tuple[int, int]
    ) -> dict[int, str]:
        """Why some of the images ``which``, all of ``size`` (height, width), cannot be decoded."""
        parts = [which[first :: self._threads] for first in range(self._threads)]
        tasks = [self._pool.submit(_undecodable, images, part, size) for part in parts if part]
        found = {i: reason for task in tasks for i, reason in task.result().items()}
        return dict(sorted(found.items()))


def _undecodable(
    images: Sequence[bytes | memoryview], which: Sequence[int], size: tuple[int, int]
) -> dict[int, str]:
    pixels = np.empty((*size, 3), np.uint8)
    found = {}
    for i in which:
        try:
            decode_into(pixels, bytes(images[i]), "the image")
        except UserError as error:
            found[i] = str(error)
    return found
