"""Images inside of other files (archives, tables, databases) as the source of a conversion.

A kind of file says in order what is in it, as ``ImageEntry``; what all kinds have in common is
here. The digest is the SHA-256 of name, label, size and bytes of every entry, so it does not
depend on how they were packed. A conversion that goes on reads what lies before again.
"""

import hashlib
from abc import abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation.errors import UserError
from curation.extract import UNLABELLED_FOLDER
from curation.labels import UNLABELLED
from curation.progress import Progress
from curation.sources.image_source import (
    BEGINNING,
    ImageSource,
    Position,
    SourceImages,
    SourceStamp,
)
from curation.sources.quarantine import BadRecordError, OnBad, stop_at
from curation.sources.read_ahead import PrefixDigest
from curation.sources.shards import stamp_of

_TOGETHER = 256
_TOGETHER_BYTES = 4 << 20
"""Entries, and bytes of them, that are given on together"""
SHARD_BITS = 44
"""An entry's offset: its place in its file, and above these bits which file it is in"""
MOST_LABEL = 1 << 53
_CODING = "utf-8", "surrogateescape"


class ImageEntry(NamedTuple):
    """An image: its name in the file, its label (-1 for none), its place, its bytes.

    Where it cannot be taken, ``reason`` says why.
    """

    name: str
    label: int
    offset: int
    payload: bytes = b""
    reason: str = ""


class EntrySource(ImageSource):
    """The images in the files ``shards``, one after the other; keys are their numbers from 0."""

    def __init__(self, kind: str, path: Path, shards: Sequence[Path]) -> None:
        self.kind, self.path, self._shards = kind, path, tuple(shards)
        self._hash = hashlib.sha256()
        self._done = 0
        self._names = _Names()

    @abstractmethod
    def entries(self) -> Iterator[ImageEntry]:
        """All entries in order, always the same ones; what is wrong with a whole file is an entry
        with a reason too."""

    @abstractmethod
    def progress_of(self, offset: int) -> int:
        """How many bytes of all files, of ``stamp().size``, lie before the entry at ``offset``."""

    @property
    def digest(self) -> PrefixDigest:
        return PrefixDigest(self._done, self._hash.hexdigest())

    @property
    def position(self) -> Position:
        return Position(self._done, self._done)

    def stamp(self) -> SourceStamp:
        return stamp_of(self.path, self._shards)

    def images(
        self,
        on_bad: OnBad = stop_at,
        start: Position = BEGINNING,
        earlier: PrefixDigest | None = None,
        progress: Progress | None = None,
    ) -> Iterator[SourceImages]:
        """The images in order, see ``ImageSource``; entries before ``start`` are read again."""
        self._hash, self._done, self._names = hashlib.sha256(), 0, _Names()
        size = self.stamp().size
        for part in self._parts():
            first = self._done
            self._hash_part(part)
            self._done += len(part)
            self._check_unchanged(earlier)
            if first >= start.number:
                for number, entry in enumerate(part, first):
                    if entry.reason:
                        what = self.describe(number, entry.offset)
                        on_bad(BadRecordError(what, number, entry.offset, entry.reason))
                yield _images(part, first)
            if progress is not None:
                progress(self.progress_of(part[-1].offset), size)

    def read(self, offsets: Iterator[int]) -> Iterator[bytes]:
        """From the beginning, where a kind has no other way: for a few images."""
        wanted = list(offsets)
        asked = set(wanted)
        found = {entry.offset: entry.payload for entry in self.entries() if entry.offset in asked}
        return iter([found[offset] for offset in wanted])

    def describe(self, key: int, offset: int) -> str:
        """How messages name an image: by file and name."""
        name, shard = self.name(offset), self.shard_of(offset)
        return str(shard) if name == shard.name else f"{shard}: {name}"

    def shard_of(self, offset: int) -> Path:
        """The file that an entry is in."""
        return self._shards[offset >> SHARD_BITS]

    def name(self, offset: int) -> str:
        """The name of the entry at ``offset``, or of its file; where they were not read yet, all
        are."""
        return self.names(np.array([offset]))[0]

    def names(self, offsets: np.ndarray) -> list[str]:
        """Several at once, see ``name``."""
        if not len(self._names):
            for _ in self._parts():
                pass
        found = zip(self._names.of(offsets), offsets.tolist(), strict=True)
        return [name or self.shard_of(offset).name for name, offset in found]

    def details(self) -> dict[str, object]:
        return {"files": len(self._shards)}

    def _parts(self) -> Iterator[list[ImageEntry]]:
        """The entries in lists, which have the same ends however a reading began."""
        part: list[ImageEntry] = []
        size = 0
        for entry in self.entries():
            part.append(entry)
            size += len(entry.payload)
            if len(part) == _TOGETHER or size >= _TOGETHER_BYTES:
                self._names.add(part)
                yield part
                part, size = [], 0
        if part:
            self._names.add(part)
            yield part

    def _hash_part(self, part: list[ImageEntry]) -> None:
        names, labels, _, payloads, _ = zip(*part, strict=True)
        heads = map("{}\t{}\t{}\n".format, names, labels, map(len, payloads))
        self._hash.update("".join(heads).encode(*_CODING))
        for payload in payloads:
            self._hash.update(payload)

    def _check_unchanged(self, earlier: PrefixDigest | None) -> None:
        if earlier is not None and earlier.length == self._done and earlier != self.digest:
            raise UserError(
                f"{self.path} has changed since the conversion was stopped; remove the unfinished "
                "store to start over"
            )


class _Names:
    """Names by ascending offset, in 16 bytes beside each."""

    def __init__(self) -> None:
        self._offsets, self._ends, self._text = array("q"), array("q", [0]), bytearray()

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, entries: Sequence[ImageEntry]) -> None:
        names, _, offsets, *_ = zip(*entries, strict=True)
        encoded = [name.encode(*_CODING) for name in names]
        self._offsets.extend(offsets)
        self._ends.extend(accumulate(map(len, encoded), initial=self._ends.pop()))
        self._text += b"".join(encoded)

    def of(self, offsets: np.ndarray) -> list[str]:
        """The names at these offsets; "" where there is none."""
        places = np.searchsorted(np.frombuffer(self._offsets, np.int64), offsets).tolist()
        return [self._at(*one) for one in zip(places, offsets.tolist(), strict=True)]

    def _at(self, place: int, offset: int) -> str:
        if place == len(self._offsets) or self._offsets[place] != offset:
            return ""
        return self._text[self._ends[place] : self._ends[place + 1]].decode(*_CODING)


def _images(part: list[ImageEntry], first: int) -> SourceImages:
    _, labels, offsets, payloads, reasons = zip(*part, strict=True)
    keys = np.arange(first, first + len(part))
    images = SourceImages(keys, np.array(labels, np.int64), np.array(offsets, np.int64), payloads)
    if any(reasons):
        images = images.take([i for i, reason in enumerate(reasons) if not reason])
    return images


class FolderLabels:
    """Labels of names in an archive by the folder that they lie in: 0, 1, ... as they come."""

    def __init__(self) -> None:
        self._labels: dict[str, int] = {}

    def of(self, name: str) -> int:
        """The label of an image's name; -1 where it lies in no folder, or below ``unlabelled``."""
        folder = name.rpartition("/")[0]
        if not folder or folder.split("/", 1)[0] == UNLABELLED_FOLDER:
            return UNLABELLED
        return self._labels.setdefault(folder, len(self._labels))


def whole_label(value: object) -> int:
    """A label as people write it: a whole number, as a number or as text; -1 for none.

    ``ValueError`` says what it is instead.
    """
    if type(value) is int and 0 <= value < MOST_LABEL:  # nearly always
        return value
    if isinstance(value, str | bytes):
        value = _number(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)
    if isinstance(value, float) and value.is_integer() and abs(value) < MOST_LABEL:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"the label {str(value)[:40]!r} is not a whole number")
    if not UNLABELLED <= value < MOST_LABEL:
        raise ValueError(f"the label is {value}; allowed are whole numbers from 0, and -1 for none")
    return value


def _number(text: str) -> float:
    text = text.strip()
    try:
        return float(text) if "." in text else int(text[:20])
    except ValueError:
        raise ValueError(f"the label {text[:40]!r} is not a whole number") from None
