"""An image set assembled in memory, the counterpart of a view on disk."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from curation.image_set import ImageSet, RootStore, ViewStep
from curation.joined_stores import SetMeta, rows_in
from curation.labels import count_identities


class GatheredImages(ImageSet):
    """The images ``rows`` int64 ``[N]`` of ``store`` with their new ``labels`` int ``[N]``.

    Labels ascend from 0 without gaps, then -1 for unlabelled images. ``path`` is its name in
    messages; ``digest`` identifies all of it.
    """

    def __init__(
        self, path: Path, store: RootStore, rows: np.ndarray, labels: np.ndarray, digest: str
    ) -> None:
        self.path, self._store, self._rows = path, store, rows
        self._labels = labels.astype(np.int32, copy=False)
        self.meta = SetMeta(
            images=len(rows),
            identities=count_identities(labels),
            unlabelled=int(np.count_nonzero(labels < 0)),
            digest=digest,
        )

    def __reduce__(self) -> Any:
        return type(self), (self.path, self._store, self._rows, self._labels, self.digest)

    @property
    def store(self) -> RootStore:
        return self._store

    @property
    def history(self) -> tuple[ViewStep, ...]:
        return ()

    @property
    def rows(self) -> np.ndarray:
        return self._rows

    @property
    def labels(self) -> np.ndarray:
        return self._labels

    @cached_property
    def source_keys(self) -> np.ndarray:
        return self.store.source_keys[self.rows]

    @cached_property
    def source_labels(self) -> np.ndarray:
        return self.store.source_labels_of(self.rows[self.offsets[:-1]])

    def _read(self, indices: np.ndarray) -> Iterator[bytes]:
        return self.store.read_many(self.rows[indices])


def re_rooted(images: ImageSet, root: RootStore) -> ImageSet:
    """The same images with ``root`` as their store, which must contain all their stores."""
    if images.store.digest == root.digest:
        return images
    rows = rows_in(root, images)
    return GatheredImages(images.path, root, rows, images.labels, images.digest)
