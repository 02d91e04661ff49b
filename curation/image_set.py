"""The interface of stores and views, which are interchangeable after the conversion."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curation.labels import UNLABELLED
from curation.packed_names import PackedNames

if TYPE_CHECKING:
    from curation.store import Store

Name = Annotated[str, Field(max_length=255)]
"""Name of a step, a parameter or a file"""
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""Hex SHA-256"""
Parameter = int | float | Name | bool
Count = Annotated[int, Field(ge=1, lt=1 << 40)]
"""Number of images; no set is empty"""
Identities = Annotated[int, Field(ge=0, lt=1 << 40)]
"""0 if no image has a label"""


class ImageSetMeta(Protocol):
    """The fields common to the metadata of stores and views."""

    @property
    def images(self) -> int: ...
    @property
    def identities(self) -> int: ...
    @property
    def unlabelled(self) -> int: ...
    @property
    def digest(self) -> str: ...


class ViewStep(BaseModel):
    """One step of a data set's history."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name
    parameters: Mapping[Name, Parameter]
    images_before: Count
    identities_before: Identities
    images_after: Count
    identities_after: Identities


class ImageSet(ABC):
    """The interface of stores and views, which are interchangeable after the conversion.

    Read-only. Cheap to create and to pickle; threads and forked processes may share it.
    """

    path: Path
    meta: ImageSetMeta

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def __reduce__(self) -> tuple[type["ImageSet"], tuple[Path]]:
        return type(self), (self.path,)

    def __len__(self) -> int:
        return self.meta.images

    @property
    def name(self) -> str:
        """The folder's name without its suffix."""
        return self.path.stem

    @property
    def full_name(self) -> str:
        """The data set and the name, such as ms1m/clean, as a job spec names the set."""
        return f"{self.path.parent.name}/{self.name}"

    @property
    def digest(self) -> str:
        """Hex SHA-256 that identifies the content, independent of its location."""
        return self.meta.digest

    @property
    def identities(self) -> int:
        return self.meta.identities

    @property
    def unlabelled(self) -> int:
        """The number of images without a label, which come last."""
        return self.meta.unlabelled

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width), equal for all images."""
        return self.store.image_size

    @property
    @abstractmethod
    def store(self) -> "RootStore":
        """The root store that holds the images; it may combine several stores."""

    @property
    @abstractmethod
    def history(self) -> tuple[ViewStep, ...]:
        """The steps since the root store."""

    @property
    @abstractmethod
    def rows(self) -> np.ndarray:
        """int64 ``[N]``: the row of each image in ``store``."""

    @property
    @abstractmethod
    def labels(self) -> np.ndarray:
        """int32 ``[N]``, ascending from 0 without gaps; then -1 for unlabelled images."""

    @property
    @abstractmethod
    def source_keys(self) -> np.ndarray:
        """int64 ``[N]``: each image's record key in the source."""

    @property
    @abstractmethod
    def source_labels(self) -> np.ndarray:
        """int64 ``[identities]``: the label in the source of each identity (its first image); -1
        if it has none."""

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 ``[identities + 1]``: identity k has the images offsets[k] ... offsets[k+1]-1."""
        return self._find_offsets()

    def _find_offsets(self) -> np.ndarray:
        labelled = self.labels[: len(self) - self.unlabelled]
        return np.searchsorted(labelled, np.arange(self.identities + 1)).astype(np.int64)

    def found(self, i: int) -> "tuple[ImageSet, int]":
        """The set in which users find image ``i``, and its index there: this set."""
        return self, i

    def read(self, i: int) -> bytes:
        """The bytes of image ``i``'s file, 0 <= i < N, verified by their CRC-32."""
        return next(self.read_many(np.array([i])))

    def read_many(self, indices: np.ndarray) -> Iterator[bytes]:
        """The files of the images ``indices`` in turn; cheaper than single calls of ``read``."""
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"{self.path} has only the images 0 to {len(self) - 1}")
        return self._read(indices)

    @abstractmethod
    def _read(self, indices: np.ndarray) -> Iterator[bytes]:
        """``read_many`` for indices that have been validated."""


class RootStore(ImageSet):
    """The storage of images: a store, or several combined (``curation.joined_stores``)."""

    @property
    @abstractmethod
    def stores(self) -> tuple["Store", ...]:
        """The stores in the order in which ``rows`` count their images."""

    @property
    @abstractmethod
    def begins(self) -> np.ndarray:
        """int64 ``[stores + 1]``: store k has the rows begins[k] ... begins[k+1]-1."""

    @property
    @abstractmethod
    def checksums(self) -> np.ndarray:
        """uint32 ``[N]``: the CRC-32 of each image's file."""

    @property
    @abstractmethod
    def source_names(self) -> PackedNames | None:
        """``[N]``: each image's path in its source folder or list; None for records."""

    @abstractmethod
    def read_ahead(self, first: int, last: int) -> None:
        """Make the system read the files of images ``first`` to ``last`` at once: a hint."""

    def source_labels_of(self, rows: np.ndarray) -> np.ndarray:
        """int64 ``[n]``: the label of each of these images in the source, -1 for none."""
        labels = self.labels[rows]
        known = labels >= 0
        found = np.full(len(rows), UNLABELLED, np.int64)
        found[known] = self.source_labels[labels[known]]
        return found

    def own_rows(self, rows: np.ndarray) -> np.ndarray:
        """int64 ``[n]``: the row of each image in its own store among ``stores``."""
        begins = self.begins
        return rows - begins[np.searchsorted(begins, rows, side="right") - 1]


def are_counts(images: int, identities: int, unlabelled: int) -> bool:
    """Whether every identity can have an image, and every labelled image an identity."""
    labelled = images - unlabelled
    return min(labelled, 1) <= identities <= labelled
