"""A record file as a source: MS1M and data sets derived from it, see ``curation.records.ms1m``."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curation.errors import UserError
from curation.file_kinds import detect_kind
from curation.files import file_digest
from curation.images import probe_size
from curation.progress import Progress
from curation.records.index import is_ordered, record_sizes
from curation.records.ms1m import find_source, read_property, stated_image_size
from curation.records.recordio import ImageRecord, RecordReader
from curation.records.stream import RecordStream
from curation.records.walk import RecordWalk, Source, stated_images
from curation.sources.digests import PrefixDigest
from curation.sources.image_source import (
    BEGINNING,
    ImageSource,
    Position,
    SourceImages,
    SourceStamp,
    repeated,
)
from curation.sources.opening import source
from curation.sources.quarantine import BadRecordError, OnBad, stop_at

_FRAME = 8
"""Bytes of a frame's header"""
_HEADS = _FRAME + 24
"""Bytes of the headers of a frame and of an image"""
_LOOKED_AT = 64
"""Records against which the property file is checked"""


class SourceImage(NamedTuple):
    """One image record: its key in the index, its label, its byte offset, its image file."""

    key: int
    label: int
    offset: int
    payload: bytes


def read_images(source: Source, progress: Progress | None = None) -> Iterator[SourceImage]:
    """All image records in file order; progress counts bytes.

    Raises ``UserError`` if the file is damaged or holds no image, a label is not an identity, or
    the index does not match.
    """
    for images in RecordImages(source).images(progress=progress):
        keys, labels, offsets, payloads = images
        columns = keys.tolist(), labels.tolist(), offsets.tolist(), map(bytes, payloads)
        yield from map(SourceImage._make, zip(*columns, strict=True))


def _is_record_file(path: Path) -> bool:
    """If the name matches, the path need not be a valid record file nor exist."""
    records = path / "train.rec"
    if path.suffix.lower() == ".rec" or records.exists() or records.is_symlink():
        return True
    kind = None if path.is_dir() else detect_kind(path)
    return kind is not None and kind.name == "recordio"


@source(
    "records",
    "a folder with train.rec (and train.idx, property), or a .rec file",
    _is_record_file,
    unit="bytes",
)
def open_records(path: Path) -> "RecordImages":
    """The training set in the folder ``path``, or the record file ``path``."""
    return RecordImages(find_source(path))


class RecordImages(ImageSource):
    """The images of a record file."""

    kind = "records"

    def __init__(self, source: Source) -> None:
        self.source, self.path = source, source.records
        self._stream = RecordStream(self.path)
        self._walk: RecordWalk | None = None

    @property
    def position(self) -> Position:
        """The record after the last one yielded."""
        return Position(0 if self._walk is None else self._walk.number, self._stream.position)

    @property
    def digest(self) -> PrefixDigest:
        """SHA-256 of the part of the file read so far."""
        return self._stream.digest

    def stamp(self) -> SourceStamp:
        """Size and modification time of the record file, and the digest of the index."""
        status, index = self.path.stat(), self.source.index
        return SourceStamp(
            name=self.path.name,
            size=status.st_size,
            modified_ns=status.st_mtime_ns,
            listing=None if index is None else file_digest(index),
        )

    def stated_image_size(self) -> tuple[int, int] | None:
        """(height, width) from the property file; None if it is missing or does not match."""
        stated = stated_image_size(self.source)
        sizes = self._first_sizes()
        return None if len(sizes) == 1 and stated not in sizes else stated

    def _first_sizes(self) -> set[tuple[int, int]]:
        """The sizes of the first images."""
        sizes = set()
        with RecordReader(self.path) as reader, suppress(UserError):
            for _, record in islice(reader, _LOOKED_AT):
                with suppress(ValueError):
                    sizes.add(probe_size(ImageRecord.unpack(record).payload))
        return sizes

    def differences(
        self, images: int, identities: int, image_size: tuple[int, int]
    ) -> Iterator[str]:
        """Contradictions between the images and the header or property file."""
        announced = stated_images(self.path)
        if announced is not None and announced != images:
            yield f"{self.path}: its header states {announced:,} images, but it has {images:,}"
        stated = read_property(self.source)
        if stated is None:
            return
        if stated.identities != identities:
            yield (
                f"{self.source.property}: it states {stated.identities:,} identities, "
                f"but there are {identities:,}"
            )
        if (stated.height, stated.width) != image_size:
            yield (
                f"{self.source.property}: it states {stated.height}x{stated.width} pixels, but the "
                f"images have {image_size[0]}x{image_size[1]}"
            )

    def images(
        self,
        on_bad: OnBad = stop_at,
        start: Position = BEGINNING,
        earlier: PrefixDigest | None = None,
        progress: Progress | None = None,
    ) -> Iterator[SourceImages]:
        """The images in file order, see ``ImageSource``."""
        self._walk = walk = RecordWalk(self.source, on_bad, start)
        self._stream = RecordStream(self.path, start.offset, earlier, walk.damaged)
        size = self.path.stat().st_size
        for records in self._stream:
            yield walk.images(records)
            if progress is not None:
                progress(self._stream.position, size)
        walk.check_end(size)
        if progress is not None:
            progress(size, size)

    def read(self, offsets: Iterator[int]) -> Iterator[bytes]:
        """The image files of the records at these offsets."""
        with RecordReader(self.path) as reader:
            for offset in offsets:
                yield ImageRecord.unpack(reader.read(offset)).payload

    def image_sizes(self) -> Iterator[np.ndarray]:
        """The approximate bytes of each image; int64 arrays.

        Taken from the distances in the index. Without an index, or if it is unsorted, the first
        thousand records are extrapolated to the whole file.
        """
        size, index = self.path.stat().st_size, self.source.index
        if index is not None and is_ordered(index):
            for sizes in record_sizes(index, size):
                yield np.maximum(sizes - _HEADS, 0)
        else:
            known = [_HEADS]  # in case no record is readable
            with RecordReader(self.path) as reader, suppress(BadRecordError):
                known.extend(_FRAME + len(record) for _, record in islice(reader, 1000))
            sizes = np.array(known, np.int64)
            count = len(sizes) * size // int(sizes.sum())
            yield from repeated(np.maximum(sizes - _HEADS, 0), count)

    def describe(self, key: int, offset: int) -> str:
        """An image's description for messages: its key and byte."""
        return f"{self.path}: record {key} at byte {offset}"

    def details(self) -> dict[str, Any]:
        """The files next to the record file."""
        index = self.source.index
        return {
            "index": None if index is None else str(index),
            "pairs": [str(pairs) for pairs in self.source.pairs],
        }

    def whole_digest(self, progress: Progress | None = None) -> str:
        """SHA-256 of the record file."""
        return file_digest(self.path, progress)
