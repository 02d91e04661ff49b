"""Checks that all images can be decoded, on all cores.

The result is remembered in the store's folder, beside the data file, which does not change.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np

from curation.bad_images import bad_image
from curation.batches import batches
from curation.errors import UserError
from curation.files import atomic_file
from curation.images import check_pixels, count_together, probe_size
from curation.json_text import read_json
from curation.progress import Progress
from curation.store import Store

DECODED_FILE = "decoded.json"
_TOGETHER = 1024


class DecodeCheck:
    """Decodes images and discards the pixels. Its threads end with it."""

    def __init__(self) -> None:
        self._threads = len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(self._threads, "decode")

    def objections(
        self, images: Sequence[bytes | memoryview], which: Sequence[int]
    ) -> dict[int, str]:
        """Why some of the images ``which``, all of one size, cannot be decoded, by their index.

        The larger the images, the fewer are decoded together.
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


def note_decoded(store: Store) -> None:
    """Remember that all images of the store were decoded."""
    with atomic_file(store.path / DECODED_FILE) as file:
        file.write(json.dumps({"digest": store.digest}).encode())


def check_decoded(store: Store, progress: Progress | None) -> None:
    """Decode all images unless done before; ``UserError`` naming the first bad one.

    Progress counts images.
    """
    if _is_decoded(store):
        return
    check, first_bad, count = DecodeCheck(), None, 0
    done = 0
    for files in batches(store.read_many(np.arange(len(store))), _TOGETHER, len):
        found = check.objections(files, range(len(files)))
        count += len(found)
        if found and first_bad is None:
            first_bad = next((done + i, reason) for i, reason in found.items())
        done += len(files)
        if progress is not None:
            progress(done, len(store))
    if first_bad is not None:
        row, reason = first_bad
        raise UserError(
            f"{count:,} of {len(store):,} images cannot be decoded, the first: "
            f"{bad_image(store, row, UserError(reason))}; or remove the store and convert again "
            "with --decode --skip-bad"
        )
    with suppress(OSError):  # on a read-only disk, the next run checks again
        note_decoded(store)


def _is_decoded(store: Store) -> bool:
    try:
        noted = read_json(store.path / DECODED_FILE, 1000)
    except ValueError:
        return False
    return noted == {"digest": store.digest}
