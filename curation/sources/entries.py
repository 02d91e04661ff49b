"""Images inside of other files (archives, tables, databases) as the source of a conversion.

A kind of file says in order what is in it, as ``ImageEntry``; what all kinds have in common is
here. The digest is the SHA-256 of name, label, size and bytes of every entry, so it does not
depend on how they were packed. A resumed conversion reads everything before it again.
"""

from abc import abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation.extract import UNLABELLED_FOLDER
from curation.labels import UNLABELLED
from curation.progress import Progress
from curation.sources.digests import PrefixDigest, RunningDigest
from curation.sources.image_source import (
    BEGINNING,
    ImageSource,
    Position,
    SourceImages,
    SourceStamp,
)
from curation.sources.packed_names import CODING, PackedNames
from curation.sources.quarantine import BadRecordError, OnBad, stop_at
from curation.sources.shards import stamp_of
from curation.text_numbers import decimal, signed

_TOGETHER = 256
_TOGETHER_BYTES = 4 << 20
"""Entries, and bytes of them, that are given on together"""
SHARD_BITS = 44
"""An entry's offset: its place in its file, and above these bits which file it is in"""
MOST_LABEL = 1 << 53
_LONGEST_LABEL = 256
"""Characters of a name"""


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
        self._digest = RunningDigest()
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
        return self._digest.value

    @property
    def position(self) -> Position:
        return Position(self._digest.count, self._digest.count)

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
        self._digest, self._names = RunningDigest(), _Names()
        size = self.stamp().size
        for part in self._parts():
            first = self._digest.count
            self._digest.add(len(part), _hashed(part))
            self._digest.check_unchanged(self.path, earlier)
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

    @staticmethod
    def place_of(offset: int) -> int:
        """Where in its file an entry is."""
        return offset & ((1 << SHARD_BITS) - 1)

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


class _Names:
    """Names by ascending offset, in 16 bytes beside each."""

    def __init__(self) -> None:
        self._offsets, self._names = array("q"), PackedNames()

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, entries: Sequence[ImageEntry]) -> None:
        names, _, offsets, *_ = zip(*entries, strict=True)
        self._offsets.extend(offsets)
        self._names.extend(names)

    def of(self, offsets: np.ndarray) -> list[str]:
        """The names at these offsets; "" where there is none."""
        places = np.searchsorted(np.frombuffer(self._offsets, np.int64), offsets).tolist()
        return [self._at(*one) for one in zip(places, offsets.tolist(), strict=True)]

    def _at(self, place: int, offset: int) -> str:
        if place == len(self._offsets) or self._offsets[place] != offset:
            return ""
        return self._names[place]


def _hashed(part: list[ImageEntry]) -> Iterator[bytes]:
    """What the digest is of."""
    names, labels, _, payloads, _ = zip(*part, strict=True)
    heads = map("{}\t{}\t{}\n".format, names, labels, map(len, payloads))
    yield "".join(heads).encode(*CODING)
    yield from payloads


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


class LabelNumbers:
    """Labels of a source as numbers. Whole numbers stay as they are; names, such as ``m.0abc``, get
    0, 1, ... as they come. The first label says which of both all are."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._are_names: bool | None = None

    def of(self, value: object) -> int:
        """The number of a label; ``ValueError`` where it is neither, or not as the first is."""
        if self._are_names is None:
            self._are_names = isinstance(value, str) and _is_name(value)
        if not self._are_names:
            return whole_label(value)
        name = str(value).strip() if isinstance(value, str) or type(value) is int else ""
        if not _can_be_name(name):
            raise ValueError(
                f"the label {str(value)[:40]!r} is not a name of at most {_LONGEST_LABEL} "
                "characters, as the first one is"
            )
        return self._names.setdefault(name, len(self._names))


def _is_name(text: str) -> bool:
    text = text.strip()
    return _can_be_name(text) and decimal(text) is None and signed(text) is None


def _can_be_name(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_LABEL and text.isprintable()


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
    found = decimal(text) if "." in text else signed(text)
    if found is None:
        raise ValueError(f"the label {text[:40]!r} is not a whole number")
    return found
