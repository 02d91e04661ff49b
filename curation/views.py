"""Views: subsets of a store without copies, ``NAME.view/``.

A view consists of two arrays, ``rows.npy`` (images of the root store) and ``labels.npy`` (their new
labels), and ``view.json``: the location and digest of the store, and every step that led here with
its parameters and what it removed. A view of a view also refers to the root store. A view of
several stores refers to all of them; its rows number their images consecutively.
"""

import hashlib
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, FailFast, Field

from curation.arrays import read_array
from curation.environment import DATA_FILE
from curation.errors import UserError
from curation.file_kinds import wrong_kind
from curation.files import UnreadableError
from curation.image_set import Count, Digest, Identities, ImageSet, RootStore, ViewStep, are_counts
from curation.joined_stores import JoinedStores
from curation.json_text import read_record
from curation.labels import are_labels
from curation.store import Store

VIEW_FILE = "view.json"
MOST_STORES = 100
META_BYTES = 4 << 20
"""Maximum bytes; a history of a thousand steps has less than 1 MiB."""
RelativePath = Annotated[str, Field(min_length=1, max_length=4096, pattern="^[^\\x00]*$")]
"""Relative to the view's folder"""


ROWS_FILE, LABELS_FILE = "rows.npy", "labels.npy"


class OtherParent(BaseModel):
    """The second of two image sets that a step combined."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: RelativePath
    digest: Digest
    images: Count
    identities: Identities
    history: Annotated[tuple["SetStep | ViewStep", ...], FailFast()]


class SetStep(ViewStep):
    """A union, intersection or difference; the earlier counts are those of the first parent."""

    other: OtherParent


class OtherStore(BaseModel):
    """A store after the first, in a view of several."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: RelativePath
    digest: Digest


class ViewMeta(BaseModel):
    """``view.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[1]
    parent: RelativePath
    store: RelativePath
    store_digest: Digest
    other_stores: Annotated[tuple[OtherStore, ...], Field(max_length=MOST_STORES), FailFast()] = ()
    """Omitted from the JSON if empty"""
    digest: Digest
    """SHA-256 of the digests of all stores, rows and labels"""
    images: Count
    identities: Identities
    unlabelled: Identities = 0
    """Images without a label; omitted from the JSON if 0"""
    history: Annotated[tuple[SetStep | ViewStep, ...], Field(min_length=1), FailFast()]


class View(ImageSet):
    """A subset that can replace a store everywhere.

    Raises ``UserError`` if there is no view, it is damaged, its store is missing, or the store is
    not the one that the view was made from.
    """

    meta: ViewMeta

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self.meta = _read_meta(self.path)
        self._store = _open_stores(self.path, self.meta)
        self._check_counts()
        self._rows = self._read_array(ROWS_FILE, np.dtype("<i8"))
        self._labels = self._read_array(LABELS_FILE, np.dtype("<i4"))
        self._check_arrays()

    @property
    def store(self) -> RootStore:
        return self._store

    @property
    def rows(self) -> np.ndarray:
        return self._rows

    @property
    def labels(self) -> np.ndarray:
        return self._labels

    @property
    def history(self) -> tuple[ViewStep, ...]:
        """All steps from the root store to this view."""
        return self.meta.history

    @cached_property
    def source_keys(self) -> np.ndarray:
        """int64 ``[N]``: each image's record key in the source."""
        return self.store.source_keys[self.rows]

    @cached_property
    def source_labels(self) -> np.ndarray:
        """int64 ``[identities]``: the source's label of each identity's first image."""
        return self.store.source_labels_of(self.rows[self.offsets[:-1]])

    def found(self, i: int) -> tuple[ImageSet, int]:
        """In a view of several stores, the store of image ``i``, because keys belong to a store."""
        if len(self.store.stores) == 1:
            return self, i
        return self.store.found(int(self.rows[i]))

    def _read(self, indices: np.ndarray) -> Iterator[bytes]:
        return self.store.read_many(self.rows[indices])

    def _read_array(self, name: str, kind: np.dtype) -> np.ndarray:
        try:
            return read_array(self.path / name, kind, (len(self),))
        except UnreadableError as error:
            raise UserError(
                f"{self.path} is damaged: {name}: {error.reason}; make the view again"
            ) from None

    def _check_counts(self) -> None:
        """Check counts before reading the arrays, whose length they determine."""
        last = self.history[-1]
        if (last.images_after, last.identities_after) != (len(self), self.identities):
            raise self._damaged(
                VIEW_FILE,
                f"{len(self):,} images of {self.identities:,} identities, but its last step left "
                f"{last.images_after:,} of {last.identities_after:,}",
            )
        fits = are_counts(len(self), self.identities, self.unlabelled)
        if not (fits and len(self) <= len(self.store)):
            raise self._damaged(
                VIEW_FILE,
                f"{len(self):,} images of {self.identities:,} identities ({self.unlabelled:,} "
                f"without a label), of a store of {len(self.store):,} images",
            )

    def _check_arrays(self) -> None:
        """The digest reveals accidental damage; a forged view may contain anything."""
        if view_digest(self.store, self.rows, self.labels) != self.meta.digest:
            raise UserError(
                f"{self.path} is damaged: its arrays have changed since it was written; make the "
                "view again"
            )
        if self.rows.min() < 0 or self.rows.max() >= len(self.store):
            raise self._damaged(
                ROWS_FILE,
                f"it names the images {self.rows.min()} to {self.rows.max()}; its store has 0 to "
                f"{len(self.store) - 1}",
            )
        if not are_labels(self.labels, self.identities, self.unlabelled):
            raise self._damaged(
                LABELS_FILE,
                f"it does not hold the identities 0 to {self.identities - 1} in order, and then -1 "
                f"for {self.unlabelled:,} images",
            )

    def _damaged(self, name: str, how: str) -> UserError:
        return UserError(f"{self.path} is damaged: {name}: {how}; make the view again")


def open_images(path: Path | str) -> Store | View:
    """The store or view in the folder ``path``, distinguished by its content.

    Raises ``UserError`` if it is neither.
    """
    path = Path(path)
    if (path / VIEW_FILE).exists():
        return View(path)
    if not path.exists() or (path / DATA_FILE).exists():
        return Store(path)
    other = wrong_kind(path, "a store or view")
    if other is not None:
        raise other
    raise UserError(
        f"{path} is neither a store (with {DATA_FILE}) nor a view (with {VIEW_FILE}); `curate "
        "convert` makes a store of RecordIO, a folder of images or a list"
    )


def _read_meta(path: Path) -> ViewMeta:
    try:
        return read_record(path / VIEW_FILE, ViewMeta, META_BYTES)
    except UnreadableError as error:
        raise UserError(f"{path} is not a view: {VIEW_FILE} in it: {error.reason}") from None
    except UserError as error:
        raise UserError(f"{error}; make the view again") from None


def _open_stores(path: Path, meta: ViewMeta) -> RootStore:
    first = _open_store(path, meta.store, meta.store_digest)
    others = [_open_store(path, each.path, each.digest) for each in meta.other_stores]
    digests = [first.digest, *(each.digest for each in others)]
    if len(set(digests)) < len(digests):
        raise UserError(f"{path} is damaged: {VIEW_FILE}: a store twice; make the view again")
    return JoinedStores([first, *others]) if others else first


def _open_store(path: Path, relative: str, digest: str) -> Store:
    where = Path(os.path.normpath(path.resolve() / relative))
    try:
        store = Store(where)
    except (UserError, OSError) as error:
        raise UserError(f"{path} is a view of a store that cannot be read: {error}") from None
    if store.digest != digest:
        raise UserError(
            f"{path} was made from another store than {where} is now: digest "
            f"{digest[:12]}, found {store.digest[:12]}; make the view again"
        )
    return store


def view_digest(store: RootStore, rows: np.ndarray, labels: np.ndarray) -> str:
    """The digest of a view with these rows and labels, as they are written: ``<i8`` and ``<i4``."""
    content = hashlib.sha256(f"view 1 {store.digest}\n".encode())
    content.update(rows.tobytes())
    content.update(labels.tobytes())
    return content.hexdigest()
