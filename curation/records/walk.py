"""Determines which records of a training set are images, and which of those are valid."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.records.index import IndexWalk
from curation.records.recordio import ImageRecord, RecordReader
from curation.records.stream import Records
from curation.sources.image_source import Position, SourceImages
from curation.sources.quarantine import BadRecordError, OnBad

FLOAT32_INTEGERS = 1 << 24
"""float32 represents every integer up to this one; above it, adjacent labels coincide."""
_HEADER = 24
"""Bytes of MXNet's image header: flag, label, two ids"""


@dataclass(frozen=True)
class Source:
    """The files of one training set; ``index`` and ``property`` are None if absent."""

    records: Path
    index: Path | None
    property: Path | None
    pairs: tuple[Path, ...]


class RecordWalk:
    """Goes through the records in order; ``number`` is the number of the next record."""

    def __init__(self, source: Source, on_bad: OnBad, start: Position) -> None:
        self.number = start.number
        self._source, self._on_bad = source, on_bad
        self._index = (
            None if source.index is None else IndexWalk(source.index, start.offset, self._no_record)
        )
        self._end_of_images = (stated_images(source.records) or -1) + 1
        self._found = start.number > 0
        self._damaged = False

    def images(self, records: Records) -> SourceImages:
        """The valid images among the next records; the bad ones go to ``on_bad``."""
        offsets, data, begins, ends = records
        numbers = np.arange(self.number, self.number + len(offsets))
        self.number += len(offsets)
        keys = numbers if self._index is None else self._index.keys_at(offsets)
        flags, labels, seconds = _heads(records)
        payloads = begins + _HEADER + 4 * flags
        ranges = (flags == 2) & (labels >= 1) & (seconds > labels)
        image = self._are_images(numbers, flags, payloads != ends, ranges)
        self._found |= bool(image.any())
        good = image & (payloads <= ends) & _are_identities(labels) & (keys >= 0)
        if self._index is not None:
            good &= ~self._index.are_repeated(offsets)
        for i in np.flatnonzero(image & ~good).tolist():
            record = bytes(data[begins[i] : ends[i]])
            self._bad(int(keys[i]), int(offsets[i]), self._objection(record, keys[i], offsets[i]))
        bounds = zip(payloads[good].tolist(), ends[good].tolist(), strict=True)
        view = memoryview(data)
        return SourceImages(
            keys[good],
            labels[good].astype(np.int64),
            offsets[good],
            [view[begin:end] for begin, end in bounds],
        )

    def damaged(self, bad: BadRecordError) -> None:
        """Report a frame that cannot be read, with its key if the index has it."""
        self.number += 1
        self._damaged = True
        key = -1 if self._index is None else int(self._index.keys_at(np.array([bad.offset]))[0])
        self._on_bad(BadRecordError(bad.what, None if key < 0 else key, bad.offset, bad.reason))

    def check_end(self, size: int) -> None:
        """After the last record, check that nothing announced is missing."""
        if self._index is not None:
            self._index.check_end()
        if not self._found:
            raise UserError(f"{self._source.records} holds no images")
        announced, held = self._end_of_images - 1, self.number - 1
        if held < announced and not self._damaged:
            reason = f"its header announces {announced:,} images, it holds {held:,}"
            what = f"{self._source.records} is truncated"
            self._on_bad(BadRecordError(what, None, size, reason))

    def _are_images(
        self, numbers: np.ndarray, flags: np.ndarray, full: np.ndarray, ranges: np.ndarray
    ) -> np.ndarray:
        """Tell images from header and identity records.

        Those have labels, no payload, and come before or after the images.

        Some packs have identity records before the images. Their two labels are keys, the second
        one larger than the first; the [label, aligned] of an image never are.
        """
        # After damage the record numbers are unreliable.
        beside = (numbers == 0) | (numbers >= self._end_of_images) | self._damaged
        return full | (flags <= 0) | ~(beside | ranges)

    def _objection(self, record: bytes, key: int, offset: int) -> str:
        """Why an image record is bad."""
        try:
            label = ImageRecord.unpack(record).label
        except ValueError as error:
            return f"it is not an image record: {error}"
        if key < 0:
            return (
                f"{self._source.index} does not fit {self._source.records.name}: it lacks the "
                f"image at byte {offset}; remove the index to read the records in order"
            )
        if _are_identities(np.array([label]))[0]:
            return f"the key {key} occurs twice in the index, first at an earlier byte"
        return (
            f"label {label:.10g} is not an identity; allowed are whole numbers from 0 to "
            f"{FLOAT32_INTEGERS}"
        )

    def _no_record(self, key: int, offset: int) -> None:
        what = f"{self._source.index} does not fit {self._source.records.name}"
        reason = f"no record begins at byte {offset}, where it has key {key}"
        self._on_bad(BadRecordError(what, key, offset, reason))

    def _bad(self, key: int, offset: int, reason: str) -> None:
        record = "record" if key < 0 else f"record {key}"
        what = f"{self._source.records}: {record} at byte {offset}"
        self._on_bad(BadRecordError(what, None if key < 0 else key, offset, reason))


def _heads(records: Records) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The flag, label and second label of each record, int64 and float64 ``[n]``.

    The flag is huge if the record is shorter than its header; the second label is meaningful only
    if the flag is at least 2.
    """
    _, data, begins, ends = records
    sizes = ends - begins
    data = data if len(data) >= _HEADER + 4 else bytes(data).ljust(_HEADER + 4)
    words = np.frombuffer(data, "<u4", len(data) // 4)
    first = np.minimum(begins // 4, max(len(words) - 1, 0))
    flags = np.where(sizes >= _HEADER, np.take(words, first, mode="clip"), 0).astype(np.int64)
    # With flag 0 the label is the second word, otherwise the first word after the header.
    place = first + np.where(flags == 0, 1, _HEADER // 4)
    labels, seconds = (
        np.take(words, place + i, mode="clip").view("<f4").astype(np.float64) for i in range(2)
    )
    return np.where(sizes >= _HEADER, flags, 1 << 40), labels, seconds


def _are_identities(labels: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (labels >= 0) & (labels <= FLOAT32_INTEGERS) & (labels == np.floor(labels))


def stated_images(records: Path) -> int | None:
    """The number of images according to the header; None without one or if it is inexact."""
    try:
        with RecordReader(records) as reader:
            header = ImageRecord.unpack(reader.read(0))
    except ValueError:
        return None
    label = header.label
    # float32 is not exact above 2^24.
    exact = label.is_integer() and 0 < label < FLOAT32_INTEGERS
    return int(label) - 1 if exact and header.flag and not header.payload else None
