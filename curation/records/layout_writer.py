"""Writes training sets in the insightface layout, which MXNet and insightface's tools read."""

from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from curation.errors import UserError
from curation.files import atomic_file, sync_folder
from curation.records.ms1m import FLOAT32_INTEGERS
from curation.records.recordio import ImageRecord, RecordWriter


def write_layout(
    folder: Path,
    images: Iterable[tuple[bytes, int]],
    image_size: tuple[int, int],
    array_labels: bool = False,
    ranges: bool = True,
) -> None:
    """Write ``train.rec``, ``train.idx`` and ``property`` like MXNet and insightface's tools.

    ``images`` yields (file, identity label), contiguous per identity. ``image_size`` is (height,
    width). ``array_labels`` writes the labels [label, 0] instead of one scalar. Without ``ranges``
    there are no header and identity records: only images, in any order, with keys from 0. That form
    has scalar labels only, because insightface's loader takes a first record with a label vector
    for a header.

    ``train.rec`` is written atomically, with one image in memory. Raises ``UserError`` for a label
    or, with ``ranges``, a number of records that float32 cannot represent.
    """
    if array_labels and not ranges:
        raise ValueError(
            "label vectors need the header record; without it, the first image would be read as one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "train.rec.partial"
    try:
        with RecordWriter(unfinished) as writer, atomic_file(folder / "train.idx") as index:
            records = _IndexedRecords(writer, index, array_labels)
            identities = records.with_ranges(images) if ranges else records.alone(images)
        with atomic_file(folder / "property") as file:
            file.write(f"{identities},{image_size[0]},{image_size[1]}\n".encode())
        unfinished.replace(folder / "train.rec")
    finally:
        unfinished.unlink(missing_ok=True)
    sync_folder(folder)


def check_label(label: int) -> None:
    """Raise ``UserError`` if a record cannot hold ``label``."""
    if not 0 <= label <= FLOAT32_INTEGERS:
        raise UserError(
            f"label {label} cannot be written: RecordIO holds labels as float32, exact from 0 to "
            f"{FLOAT32_INTEGERS}; use new labels (without --original), or write folders"
        )


class _IndexedRecords:
    """Writes records and their index in step."""

    def __init__(self, writer: RecordWriter, index: BinaryIO, array_labels: bool) -> None:
        self._writer = writer
        self._index = index
        self._array_labels = array_labels
        self._count = 0

    def with_ranges(self, images: Iterable[tuple[bytes, int]]) -> int:
        """Write header, images and one record per identity; return the number of identities."""
        # The header's numbers are known only at the end; its length does not depend on them.
        self._write_bounds(0, 0)
        first_images = array("q")
        for payload, label, is_first in _in_a_row(images):
            if is_first:
                first_images.append(self._count)
            self._write_image(payload, label)
        end_of_images = self._count
        _check_exact(end_of_images + len(first_images))
        first_images.append(end_of_images)
        for first, last in pairwise(first_images):
            self._write_bounds(first, last)
        self._writer.overwrite_first(_bounds_record(0, end_of_images, self._count).pack())
        return len(first_images) - 1

    def alone(self, images: Iterable[tuple[bytes, int]]) -> int:
        """Write images only; return the number of identities."""
        labels = set()
        for payload, label in images:
            self._write_image(payload, label)
            labels.add(label)
        return len(labels)

    def _write_image(self, payload: bytes, label: int) -> None:
        check_label(label)
        labels = (float(label), 0.0) if self._array_labels else None
        self._write(ImageRecord(float(label), payload, id=self._count, labels=labels))

    def _write_bounds(self, first: int, last: int) -> None:
        self._write(_bounds_record(self._count, first, last))

    def _write(self, record: ImageRecord) -> None:
        self._index.write(b"%d\t%d\n" % (self._count, self._writer.write(record.pack())))
        self._count += 1


def _in_a_row(images: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int, bool]]:
    """Each image, and whether it is the first of its identity."""
    seen = set()
    previous = None
    for payload, label in images:
        is_first = label != previous
        if is_first and label in seen:
            raise ValueError(f"the images of identity {label} are not contiguous")
        seen.add(label)
        previous = label
        yield payload, label, is_first


def _bounds_record(key: int, first: int, last: int) -> ImageRecord:
    return ImageRecord(float(first), b"", id=key, labels=(float(first), float(last)))


def _check_exact(records: int) -> None:
    if records > FLOAT32_INTEGERS:
        raise UserError(
            f"{records:,} records are too many for a header record, which holds keys as float32, "
            f"exact up to {FLOAT32_INTEGERS}; leave the ranges out"
        )
