"""The store: one data set in one LMDB environment, ``NAME.lmdb/data.mdb``.

Image i has the key i as eight big-endian bytes, and the original image file as its value. Images of
one identity are consecutive, identities in ascending order of their label in the source; unlabelled
images come last. The index is stored under text keys in the same environment; docs/formats.md
describes the format.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from curation.environment import DATA_FILE, Environment
from curation.errors import UserError
from curation.image_set import Count, Digest, Identities, RootStore, ViewStep, are_counts
from curation.images import MAX_FILE_BYTES, MAX_PIXELS
from curation.json_text import parse_record
from curation.labels import are_labels
from curation.packed_names import PackedNames
from curation.printable import argument
from curation.sources.image_source import SourceKind

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
    def source_names(self) -> PackedNames | None:
        """``[N]``: each image's path in its source folder or list; None for records."""
        data = self._environment.get(NAMES_KEY)
        if data is None:
            return None
        names = PackedNames.separated(data)
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

    def bytes_of(self, indices: np.ndarray) -> int:
        """The bytes of the files of the images ``indices``, without reading them."""
        return self._environment.total_size(indices.tolist())

    def _read(self, indices: np.ndarray) -> Iterator[bytes]:
        images = indices.tolist()
        checksums = self.checksums.data
        for i, file in zip(images, self.read_unchecked(images), strict=True):
            if zlib.crc32(file) != checksums[i]:
                raise UserError(
                    f"{self.path}: image {i} (key {int(self.source_keys[i])}): its bytes have "
                    f"changed; `curate verify {argument(self.path)}` lists all such images, "
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
    return f"`curate convert SOURCE {argument(str(path).removesuffix(PARTIAL))}` resumes it"
