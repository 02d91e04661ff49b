"""The insightface layout of a training set: MS1M and its many children.

A folder with ``train.rec`` (RecordIO), ``train.idx`` (record keys), ``property`` ("identities,
height,width") and verification sets ``*.bin``. Record 0 is a header with the labels [key of the
first identity record, end of keys]; then come the images, then one record an identity with the
labels [first image, last + 1] and no payload. Some packs lack the index, the header or the identity
records; all are read.

An image says its own identity. The ranges in header and identity records are never used for that:
float32 cannot hold odd integers above 2^24, so Glint360K's are off by one.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation.errors import UserError
from curation.file_kinds import what_is_this
from curation.images import probe_size
from curation.progress import Progress
from curation.records.index import is_ordered, record_sizes
from curation.records.recordio import ImageRecord, RecordReader
from curation.records.stream import RecordStream
from curation.records.walk import FLOAT32_INTEGERS as FLOAT32_INTEGERS
from curation.records.walk import RecordWalk, Source, stated_images
from curation.sources.image_source import (
    BEGINNING,
    Position,
    SourceImages,
    SourceKind,
    SourceStamp,
    file_digest,
)
from curation.sources.quarantine import BadRecordError, OnBad, stop_at
from curation.sources.read_ahead import Digest
from curation.text_files import text_lines

_HEADS = 8 + 24
"""Bytes of a frame's and an image's header"""
_LOOKED_AT = 64
"""Records that tell whether the property file fits"""


def find_source(path: Path) -> Source:
    """The training set in the folder ``path``, or of the record file ``path``.

    Raises ``UserError`` saying what was looked for where there is no record file.
    """
    path = Path(path)
    records = path / "train.rec" if path.is_dir() and path.suffix != ".rec" else path
    if records.is_dir():
        raise UserError(f"{records} is a directory; a RecordIO file is wanted here")
    if records.is_symlink():
        _check_begins_as_records(records)
    if not records.exists():
        what = "no train.rec in it" if path.is_dir() else "it does not exist"
        raise UserError(
            f"{path}: {what}; give a folder with train.rec (and train.idx, property, *.bin) "
            "or a .rec file"
        )
    _check_begins_as_records(records)
    index, properties = records.with_suffix(".idx"), records.with_name("property")
    return Source(
        records,
        # A link that leads nowhere is told when it is read: without an index the keys are others.
        index if index.exists() or index.is_symlink() else None,
        properties if properties.exists() or properties.is_symlink() else None,
        tuple(sorted(records.parent.glob("*.bin"))),
    )


def _check_begins_as_records(records: Path) -> None:
    """Name a file that is something else; damage is left to those who read it."""
    kind = what_is_this(records)
    if kind is not None and kind.name not in ("recordio", "empty"):
        raise kind.refusal(records, "RecordIO")


def stated_image_size(source: Source) -> tuple[int, int] | None:
    """(height, width) from the property file, or None where there is none."""
    found = read_property(source)
    return None if found is None else (found.height, found.width)


class Property(NamedTuple):
    """What the ``property`` file says of a pack."""

    identities: int
    height: int
    width: int


def read_property(source: Source) -> Property | None:
    """The file beside the records, or None where there is none.

    Raises ``UserError`` where it is something else.
    """
    if source.property is None:
        return None
    wanted = "'identities,height,width'"
    lines = text_lines(source.property, wanted)
    _, text = next(lines, (1, ""))
    words = re.split(r"[,\s]+", text.strip())
    if len(words) != 3 or not all(word.isascii() and word.isdigit() for word in words):
        raise UserError(
            f"{source.property}: {text[:60]!r} is not {wanted}; correct it or take it away"
        )
    return Property(*(int(word[:18]) for word in words))


class SourceImage(NamedTuple):
    """One image record: its key in the index, its identity label, its byte offset, its file."""

    key: int
    label: int
    offset: int
    payload: bytes


def read_images(source: Source, progress: Progress | None = None) -> Iterator[SourceImage]:
    """All image records in the order of the file; progress counts bytes.

    Raises ``UserError`` where the file is damaged or holds no image, a label is no identity, or the
    index does not fit.
    """
    for images in RecordImages(source).images(progress=progress):
        keys, labels, offsets, payloads = images
        columns = keys.tolist(), labels.tolist(), offsets.tolist(), map(bytes, payloads)
        yield from map(SourceImage._make, zip(*columns, strict=True))


class RecordImages:
    """The images of a record file: an ``ImageSource``."""

    kind: SourceKind = "records"

    def __init__(self, source: Source) -> None:
        self.source, self.path = source, source.records
        self._stream = RecordStream(self.path)
        self._walk: RecordWalk | None = None

    @property
    def total(self) -> int:
        """Bytes of the record file."""
        return self.path.stat().st_size

    @property
    def position(self) -> Position:
        """The record after those that were given."""
        return Position(0 if self._walk is None else self._walk.number, self._stream.position)

    @property
    def digest(self) -> Digest:
        """SHA-256 of as much of the file as has been read."""
        return self._stream.digest

    def stamp(self) -> SourceStamp:
        """Size and time of the record file, digest of the index."""
        status, index = self.path.stat(), self.source.index
        return SourceStamp(
            name=self.path.name,
            size=status.st_size,
            modified_ns=status.st_mtime_ns,
            listing=None if index is None else file_digest(index),
        )

    def stated_image_size(self) -> tuple[int, int] | None:
        """(height, width) from the property file; None where there is none, or it does not fit."""
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
        """What header and property file say otherwise of what was found."""
        announced = stated_images(self.path)
        if announced is not None and announced != images:
            yield f"{self.path}: its header announces {announced:,} images, {images:,} came"
        stated = read_property(self.source)
        if stated is None:
            return
        if stated.identities != identities:
            yield (
                f"{self.source.property}: it says {stated.identities:,} identities, "
                f"{identities:,} came"
            )
        if (stated.height, stated.width) != image_size:
            yield (
                f"{self.source.property}: it says {stated.height}x{stated.width} pixels, the "
                f"images have {image_size[0]}x{image_size[1]}"
            )

    def images(
        self,
        on_bad: OnBad = stop_at,
        start: Position = BEGINNING,
        earlier: Digest | None = None,
        progress: Progress | None = None,
    ) -> Iterator[SourceImages]:
        """The images in the order of the file, see ``ImageSource``."""
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
        """About how many bytes each image has; int64 arrays.

        By the distances in the index. Without one, or where it is in disorder, as if the whole file
        were like its first thousand records.
        """
        size, index = self.path.stat().st_size, self.source.index
        if index is not None and is_ordered(index):
            for sizes in record_sizes(index, size):
                yield np.maximum(sizes - _HEADS, 0)
        else:
            known = [_HEADS]  # there may be none that can be read
            with RecordReader(self.path) as reader, suppress(BadRecordError):
                known.extend(len(record) for _, record in islice(reader, 1000))
            sizes = np.array(known, np.int64)
            yield np.resize(np.maximum(sizes - _HEADS, 0), len(sizes) * size // int(sizes.sum()))

    def describe(self, key: int, offset: int) -> str:
        """How messages name an image: by its key and byte."""
        return f"{self.path}: record {key} at byte {offset}"

    def name(self, offset: int) -> None:
        """Records have no file names."""

    def whole_digest(self, progress: Progress | None = None) -> str:
        """SHA-256 of the record file."""
        return file_digest(self.path, progress)
