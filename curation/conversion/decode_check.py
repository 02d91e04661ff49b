"""Whether images can be decoded: all of them, on all cores."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from curation.errors import UserError
from curation.images import check_pixels, count_together, probe_size


class DecodeCheck:
    """Decodes images and forgets the pixels; its threads end with it."""

    def __init__(self) -> None:
        self._threads = len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._threads, "decode")

    def objections(
        self, images: Sequence[bytes | memoryview], which: Sequence[int]
    ) -> dict[int, str]:
        """Why some of the images ``which``, all of one size, cannot be decoded, by their place in
        the list. The larger they are, the fewer are decoded together.
        """
        if not which:
            return {}
        together = count_together(probe_size(bytes(images[which[0]])), self._threads)
        parts = [which[first::together] for first in range(together)]
        tasks = [self._pool.submit(_undecodable, images, part) for part in parts if part]
        found = {i: reason for task in tasks for i, reason in task.result().items()}
        return dict(sorted(found.items()))


def _undecodable(images: Sequence[bytes | memoryview], which: Sequence[int]) -> dict[int, str]:
    found = {}
    for i in which:
        try:
            check_pixels(bytes(images[i]), "the image")
        except UserError as error:
            found[i] = str(error)
    return found
