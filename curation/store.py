"""The store: one data set in one LMDB environment, ``NAME.lmdb/data.mdb``.

Image i has the key i as eight big-endian bytes, and the original image file as its value. Images of
one identity are consecutive, identities in ascending order of their label in the source; unlabelled
images come last. The index is stored under text keys in the same environment; docs/formats.md
describes the format.
"""

import hashlib
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from curation.environment import DATA_FILE, Environment
from curation.errors import UserError
from curation.images import MAX_FILE_BYTES, MAX_PIXELS
from curation.json_text import parse_record
from curation.labels import UNLABELLED, are_labels
from curation.sources.image_source import SourceKind

Name = Annotated[str, Field(max_length=255)]
"""Name of a step, a parameter or a file"""
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""Hex SHA-256"""
Parameter = int | float | Name | bool
Count = Annotated[int, Field(ge=1, lt=1 << 40)]
"""Number of images; no set is empty"""
Identities = Annotated[int, Field(ge=0, lt=1 << 40)]
"""0 if no image has a label"""

FORMAT_VERSION: Final = 2
PARTIAL = ".partial"
"""A conversion builds in ``NAME.lmdb.partial/``."""

_MOST_META_BYTES = 1 << 20

STAMP_FILE = "source.json"
"""Identifies the source of a conversion"""

META_KEY, NAMES_KEY = b"meta", b"source_names"
CHECKSUMS_KEY, LABELS_KEY, OFFSETS_KEY = b"checksums", b"labels", b"offsets"
SOURCE_KEYS_KEY, SOURCE_LABELS_KEY = b"source_keys", b"source_labels"
ARRAYS: Final[Mapping[bytes, np.dtype]] = {
    CHECKSUMS_KEY: np.dtype("<u4"),
    LABELS_KEY: np.dtype("<i4"),
    OFFSETS_KEY: np.dtype("<i8"),
    SOURCE_KEYS_KEY: np.dtype("<i8"),
    SOURCE_LABELS_KEY: np.dtype("<i8"),
}
"""The arrays beside the images, in the order of their keys"""

image_key = struct.Struct(">Q").pack
"""The key of an image, big-endian so that keys sort in image order"""


def _is_allowed_size(size: tuple[int, int]) -> tuple[int, int]:
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"{size[0]} x {size[1]} pixels are more than {MAX_PIXELS:,}")
    return size


class StoreMeta(BaseModel):
    """A store's metadata; written last, so that its presence means completeness."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format_version: Literal[2]
    images: Count
    identities: Identities
    unlabelled: Identities = 0
    """Images without a label; omitted from the JSON if 0, as in older stores"""
    image_size: Annotated[tuple[Count, Count], AfterValidator(_is_allowed_size)]
    """(height, width)"""
    encoding: Literal["jpeg", "png", "mixed"]
    skipped: int = Field(ge=0)
    """Bad records that the conversion skipped; ``quarantine.tsv`` lists them"""
    source_kind: SourceKind
    source_name: str
    source_size: int = Field(ge=0)
    """Bytes"""
    source_digest: Digest
    """SHA-256 of the source's record file, or of paths and bytes of all its files"""
    digest: Digest
    """SHA-256 of the store's content: the source's digest and the arrays"""
    software: str
    complete: Literal[True]

    def to_json(self) -> bytes:
        """The format that ``_read_meta`` reads; unchanged for fully labelled stores."""
        return self.model_dump_json(exclude_defaults=True).encode()


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
            raise IndexError(f"{self.path} has the images 0 to {len(self) - 1} only")
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
    def source_names(self) -> tuple[str, ...] | None:
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


class Store(RootStore):
    """A complete store.

    Raises ``UserError`` if there is no store, or it is unfinished or damaged, also on later reads.
    """

    meta: StoreMeta

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).absolute()
        self._environment = _open_environment(self.path)
        self.meta = self._read_meta()
        self._check_counts()

    @property
    def history(self) -> tuple[ViewStep, ...]:
        """The steps since the root store: none."""
        return ()

    @property
    def store(self) -> "Store":
        return self

    @property
    def stores(self) -> tuple["Store", ...]:
        return (self,)

    @property
    def begins(self) -> np.ndarray:
        return np.array([0, len(self)])

    @property
    def image_size(self) -> tuple[int, int]:
        return self.meta.image_size

    @cached_property
    def rows(self) -> np.ndarray:
        """int64 ``[N]``: the row of each image in ``store``; here 0 ... N-1."""
        return np.arange(len(self), dtype=np.int64)

    @cached_property
    def labels(self) -> np.ndarray:
        """int32 ``[N]``, ascending from 0 without gaps; then -1 for unlabelled images."""
        labels = self._read_array(LABELS_KEY, len(self))
        self._check(LABELS_KEY, are_labels(labels, self.identities, self.unlabelled))
        return labels

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 ``[identities + 1]``: identity k has the images offsets[k] ... offsets[k+1]-1."""
        offsets = self._read_array(OFFSETS_KEY, self.identities + 1)
        self._check(OFFSETS_KEY, np.array_equal(offsets, self._find_offsets()))
        return offsets

    @cached_property
    def source_keys(self) -> np.ndarray:
        """int64 ``[N]``: each image's record key in the source."""
        keys = self._read_array(SOURCE_KEYS_KEY, len(self))
        self._check(SOURCE_KEYS_KEY, keys.min() >= 0)
        return keys

    @cached_property
    def source_labels(self) -> np.ndarray:
        """int64 ``[identities]``: the label of each identity in the source, ascending."""
        labels = self._read_array(SOURCE_LABELS_KEY, self.identities)
        is_right = labels.min(initial=0) >= 0 and (labels[1:] > labels[:-1]).all()
        self._check(SOURCE_LABELS_KEY, is_right)
        return labels

    @cached_property
    def checksums(self) -> np.ndarray:
        """uint32 ``[N]``: the CRC-32 of each image's file."""
        return self._read_array(CHECKSUMS_KEY, len(self))

    @cached_property
    def source_names(self) -> tuple[str, ...] | None:
        """``[N]``: each image's path in its source folder or list; None for records."""
        data = self._environment.get(NAMES_KEY)
        if data is None:
            return None
        names = tuple(data.decode("utf-8", "surrogateescape").split("\0"))
        self._check(NAMES_KEY, len(names) == len(self))
        return names

    def read_ahead(self, first: int, last: int) -> None:
        """Make the system read the files of images ``first`` to ``last`` at once: a hint."""
        self._environment.read_ahead(first, last)

    def all_keys(self) -> Iterator[bytes]:
        """All keys of the environment in order."""
        return self._environment.all_keys()

    @property
    def stated_entries(self) -> int:
        """The number of entries according to the environment."""
        return self._environment.entries

    def read_unchecked(self, indices: Sequence[int]) -> Iterator[bytes]:
        """The files of the images ``indices``, without verification."""
        files = self._environment.get_numbered(indices, MAX_FILE_BYTES)
        for i, file in zip(indices, files, strict=True):
            if file is None:
                raise UserError(f"{self.path} is damaged: image {i} is missing or out of order")
            yield file

    def _read(self, indices: np.ndarray) -> Iterator[bytes]:
        images = indices.tolist()
        checksums = self.checksums.data
        for i, file in zip(images, self.read_unchecked(images), strict=True):
            if zlib.crc32(file) != checksums[i]:
                raise UserError(
                    f"{self.path}: image {i} (key {int(self.source_keys[i])}): its bytes have "
                    f"changed; `curate verify {self.path}` lists all such images, "
                    "`curate view drop --by key` makes a view without them"
                )
            yield file

    def _read_meta(self) -> StoreMeta:
        text = self._environment.get(META_KEY, _MOST_META_BYTES)
        if text is None and self.path.name.endswith(PARTIAL):
            raise UserError(f"{self.path} is not complete; {_how_to_resume(self.path)}")
        if text is None:
            raise UserError(
                f"{self.path} is not complete, or another kind of LMDB: it has no meta data; "
                "`curate convert` makes a store of RecordIO, a folder of images or a list"
            )
        try:
            return parse_record(text, StoreMeta)
        except ValueError as error:
            what = f"{self.path} is not a store of format {FORMAT_VERSION}"
            raise UserError(f"{what}: {error}") from None

    def _check_counts(self) -> None:
        """Check counts before allocating memory; the file size bounds the environment's count."""
        fits = are_counts(len(self), self.identities, self.unlabelled)
        if not (fits and len(self) < self.stated_entries):
            raise UserError(
                f"{self.path} is damaged: {len(self):,} images of {self.identities:,} identities, "
                f"{self.unlabelled:,} without a label, cannot be in {self.stated_entries:,} entries"
            )

    def _read_array(self, key: bytes, length: int) -> np.ndarray:
        data, kind = self._environment.get(key), ARRAYS[key]
        self._check(key, data is not None and len(data) == length * kind.itemsize)
        return np.frombuffer(data or b"", kind)

    def _check(self, key: bytes, is_right: bool | np.bool) -> None:
        if not is_right:
            raise UserError(
                f"{self.path} is damaged: its {key.decode()} do not match its meta data; convert "
                "it again"
            )


def are_counts(images: int, identities: int, unlabelled: int) -> bool:
    """Whether every identity can have an image, and every labelled image an identity."""
    labelled = images - unlabelled
    return min(labelled, 1) <= identities <= labelled


def content_digest(source_digest: str, arrays: Iterable[np.ndarray]) -> str:
    """A store's digest, of its source's digest and its arrays in the order of their keys."""
    digest = hashlib.sha256(f"store {FORMAT_VERSION} {source_digest}\n".encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _open_environment(path: Path) -> Environment:
    if not (path / DATA_FILE).exists():
        if path.name.endswith(PARTIAL) and path.is_dir():
            raise UserError(f"{path} is not complete; {_how_to_resume(path)}")
        unfinished = Path(f"{path}{PARTIAL}")
        if unfinished.is_dir():
            raise UserError(
                f"{path} is not complete: its conversion was stopped; {_how_to_resume(path)}"
            )
        there = f"there is no {DATA_FILE} in it" if path.exists() else "it does not exist"
        raise UserError(f"{path} is not a store: {there}")
    return Environment(path)


def _how_to_resume(path: Path) -> str:
    return f"`curate convert SOURCE {str(path).removesuffix(PARTIAL)}` resumes it"
