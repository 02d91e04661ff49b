"""A source whose images are packed in other files (archives, tables, databases).

Each kind of file yields its contents in order as ``ImageEntry``; this module has the code that all
kinds share. The digest is the SHA-256 of name, label, size and bytes of every entry, so it does not
depend on how the entries were packed. A resumed conversion reads all earlier entries again.
"""

from abc import abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation.labels import UNLABELLED
from curation.packed_names import CODING, PackedNames
from curation.progress import Progress
from curation.sources.digests import PrefixDigest, RunningDigest
from curation.sources.image_source import (
    BEGINNING,
    ImageSource,
    Position,
    SourceImages,
    SourceStamp,
)
from curation.sources.label_choice import USUAL
from curation.sources.quarantine import BadRecordError, OnBad, stop_at
from curation.sources.shards import missing_parts, stamp_of
from curation.text_numbers import decimal, signed

_TOGETHER = 256
_TOGETHER_BYTES = 4 << 20
"""The maximum size in bytes of a batch of entries"""
SHARD_BITS = 44
"""An offset holds the entry's position in its file; the bits above these hold the file's number"""
MOST_LABEL = 1 << 53
_SHOWN = 40
MISSING = frozenset({"nan", "NaN", "NAN", "None", "null", "NULL", "<NA>"})
"""What pandas and databases write for a missing value"""
LONGEST_LABEL = 256
"""Maximum characters of a label that is a name"""


class ImageEntry(NamedTuple):
    """An image: its name in the file, its label (-1 for none), its position and its bytes.

    ``reason`` states why the image cannot be used, if it cannot.
    """

    name: str
    label: int
    offset: int
    payload: bytes = b""
    reason: str = ""


class EntrySource(ImageSource):
    """The images in the files ``shards``, in order; keys number them from 0."""

    def __init__(self, kind: str, path: Path, shards: Sequence[Path]) -> None:
        self.kind, self.path, self._shards = kind, path, tuple(shards)
        self._digest = RunningDigest()
        self._names = _Names()

    @abstractmethod
    def entries(self) -> Iterator[ImageEntry]:
        """All entries, in the same order every time.

        An unreadable file becomes an entry with a ``reason``.
        """

    @abstractmethod
    def progress_of(self, offset: int) -> int:
        """The bytes, out of ``stamp().size``, before the entry at ``offset``."""

    @property
    def digest(self) -> PrefixDigest:
        return self._digest.value

    @property
    def position(self) -> Position:
        return Position(self._digest.count, self._digest.count)

    def stamp(self) -> SourceStamp:
        stamp = stamp_of(self.path, self._shards)
        return stamp if self.choice == USUAL else stamp.of_variant(repr(self.choice))

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
        """Reads from the start because not every kind can seek; meant for a few images."""
        wanted = list(offsets)
        distinct = set(wanted)
        found = {
            entry.offset: entry.payload for entry in self.entries() if entry.offset in distinct
        }
        return iter([found[offset] for offset in wanted])

    def describe(self, key: int, offset: int) -> str:
        """An image's description for messages: its file and name."""
        name, shard = self.name(offset), self.shard_of(offset)
        return str(shard) if name == shard.name else f"{shard}: {name}"

    def shard_of(self, offset: int) -> Path:
        """The file that contains an entry."""
        return self._shards[offset >> SHARD_BITS]

    @staticmethod
    def place_of(offset: int) -> int:
        """The position of an entry in its file."""
        return offset & ((1 << SHARD_BITS) - 1)

    def name(self, offset: int) -> str:
        """The name of the entry at ``offset``, or of its file.

        Reads all entries if their names are not known yet.
        """
        return self.names(np.array([offset]))[0]

    def names(self, offsets: np.ndarray) -> list[str]:
        """The names of several entries; see ``name``."""
        if not len(self._names):
            for _ in self._parts():
                pass
        found = self._names.of(offsets)
        for place, name in enumerate(found):
            if not name:
                found[place] = self.shard_of(int(offsets[place])).name
        return found

    def gaps(self) -> Iterator[str]:
        return missing_parts(self._shards)

    def details(self) -> dict[str, object]:
        return {"files": len(self._shards)}

    def _parts(self) -> Iterator[list[ImageEntry]]:
        """The entries in batches; the boundaries do not depend on where the reading started."""
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
    """Names by ascending offset, with 16 bytes of overhead per name."""

    def __init__(self) -> None:
        self._offsets, self._names = array("q"), PackedNames()

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, entries: Sequence[ImageEntry]) -> None:
        names, _, offsets, *_ = zip(*entries, strict=True)
        self._offsets.extend(offsets)
        self._names.extend(names)

    def of(self, offsets: np.ndarray) -> list[str]:
        """The names at these offsets; "" if an offset has none."""
        known = np.frombuffer(self._offsets, np.int64)
        places = np.minimum(np.searchsorted(known, offsets), len(known) - 1)
        names = self._names.at(places.tolist())
        for missing in np.flatnonzero(known[places] != offsets).tolist():
            names[missing] = ""
        return names


def _hashed(part: list[ImageEntry]) -> Iterator[bytes]:
    """The bytes that the digest covers."""
    names, labels, _, payloads, _ = zip(*part, strict=True)
    of_each = zip(names, labels, payloads, strict=True)
    heads = [f"{name}\t{label}\t{len(payload)}\n" for name, label, payload in of_each]
    yield "".join(heads).encode(*CODING)
    yield from payloads


def _images(part: list[ImageEntry], first: int) -> SourceImages:
    _, labels, offsets, payloads, reasons = zip(*part, strict=True)
    keys = np.arange(first, first + len(part))
    images = SourceImages(keys, np.array(labels, np.int64), np.array(offsets, np.int64), payloads)
    if any(reasons):
        images = images.take([i for i, reason in enumerate(reasons) if not reason])
    return images


class LabelNumbers:
    """Converts the labels of a source to numbers.

    Whole numbers stay unchanged; names, such as ``m.0abc``, become 0, 1, ... as they appear.
    The first label determines which of the two all labels must be; ``MISSING`` ones are none.
    """

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._are_names: bool | None = None

    def of(self, value: object) -> int:
        """The number of a label; ``ValueError`` if it is not of the first label's type."""
        if isinstance(value, str) and value.strip() in MISSING:
            return UNLABELLED
        if self._are_names is None:
            self._are_names = isinstance(value, str) and _is_name(value)
        if not self._are_names:
            return whole_label(value)
        name = str(value).strip() if isinstance(value, str) or type(value) is int else ""
        if not _can_be_name(name):
            raise ValueError(
                f"the label {str(value)[:40]!r} is not a name of at most {LONGEST_LABEL} "
                "characters, as the first one is"
            )
        return self._names.setdefault(name, len(self._names))


def _is_name(text: str) -> bool:
    text = text.strip()
    return _can_be_name(text) and decimal(text) is None and signed(text) is None


def _can_be_name(text: str) -> bool:
    plain = text.encode(errors="replace").decode()  # bytes that are not UTF-8 are part of names
    return 0 < len(text) <= LONGEST_LABEL and plain.isprintable()


def whole_label(value: object) -> int:
    """A label given as a whole number or as its text; -1 for none.

    The ``ValueError`` for anything else describes the value.
    """
    if type(value) is int and 0 <= value < MOST_LABEL:  # the usual case
        return value
    if isinstance(value, str | bytes):
        value = _number(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)
    if isinstance(value, float | Decimal) and -MOST_LABEL < value < MOST_LABEL and value % 1 == 0:
        value = int(value)
    if isinstance(value, list):
        raise ValueError(
            f"the label is a list of {len(value)} values, {_start(value)}; expected one"
        )
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"the label {_start(value)!r} is not a whole number")
    if not UNLABELLED <= value < MOST_LABEL:
        most = MOST_LABEL - 1
        raise ValueError(
            f"the label is {value}; allowed are whole numbers from 0 to {most}, and -1 for none"
        )
    return value


def _start(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _number(text: str) -> float:
    text = text.strip()
    found = decimal(text) if "." in text else signed(text)
    if found is None:
        raise ValueError(f"the label {text[:40]!r} is not a whole number")
    return found
