"""Image files as a source, each with the label of its identity."""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice, starmap
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation.batches import batches
from curation.file_kinds import detect_kind
from curation.files import UnreadableError, read_whole
from curation.images import MAX_FILE_BYTES
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
from curation.sources.label_choice import FolderLabels, LabelChoice, repeated_names
from curation.sources.quarantine import BadRecordError, OnBad, stop_at
from curation.wording import counted

_ADDED_TOGETHER = 1 << 12
_TOGETHER = 64
"""Files read per batch"""


class ImageFile(NamedTuple):
    """An image of a data set: its key, its label (-1 for none) and its path below the root."""

    key: int
    label: int
    name: str


class FileTable:
    """A table of image files that needs 24 bytes and the name for each."""

    def __init__(self, files: Iterable[ImageFile]) -> None:
        self.keys, self._labels, self._names = array("q"), array("q"), PackedNames()
        left = iter(files)
        while part := list(islice(left, _ADDED_TOGETHER)):
            keys, labels, names = zip(*part, strict=True)
            self.keys.extend(keys)
            self._labels.extend(labels)
            self._names.extend(names)

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[ImageFile]:
        return (self[place] for place in range(len(self)))

    def labelled_folders(self) -> Iterator[str]:
        """The folder of the first of consecutive images with one label."""
        labels = np.frombuffer(self._labels, np.int64)
        begins = np.flatnonzero(np.diff(labels, prepend=UNLABELLED))
        for place in begins[labels[begins] != UNLABELLED].tolist():
            yield self._names[place].rpartition("/")[0]

    def listed_again(self) -> Iterator[str]:
        """The remark that some files occur several times; see ``ImageSource.differences``."""
        hashes = np.fromiter(map(hash, self._names), np.int64, len(self))
        order = np.argsort(hashes, kind="stable")
        again = np.flatnonzero(np.diff(hashes[order]) == 0)
        if not again.size:
            return
        labels = np.frombuffer(self._labels, np.int64)[order]
        others = int(np.count_nonzero(labels[again] != labels[again + 1]))
        differ = f" ({others:,} with another label)" if others else ""
        shown = self._names[int(order[again + 1].min())]
        yield (
            f"the list names {counted(len(again), 'image')} again{differ}, such as {shown[:80]!r}; "
            "the store has these several times"
        )

    def __getitem__(self, place: int) -> ImageFile:
        return ImageFile(self.keys[place], self._labels[place], self._names[place])


class ImageFiles(ImageSource):
    """Image files in the order of ``files``, below ``root``.

    ``orphans`` are the names of files that are in no identity's folder: bad records, numbered after
    the files. ``are_folders_identities`` states where the labels are from. The digest is the
    SHA-256 of key, label, path and bytes of each file. ``files`` is held in memory, see
    ``FileTable``.
    """

    choices = frozenset({"folder"})

    def __init__(
        self,
        kind: str,
        path: Path,
        root: Path,
        files: Iterable[ImageFile],
        orphans: Sequence[str] = (),
        are_folders_identities: bool = False,
    ) -> None:
        self._are_folders_identities = are_folders_identities
        self.kind, self.path = kind, path
        self._root, self._files, self._orphans = root, FileTable(files), orphans
        self._digest = RunningDigest()

    def __len__(self) -> int:
        return len(self._files)

    def keys(self) -> np.ndarray:
        """The keys of all files, int64 ``[N]``."""
        return np.array(self._files.keys, np.int64)

    @property
    def digest(self) -> PrefixDigest:
        """SHA-256 of the files read so far."""
        return self._digest.value

    @property
    def position(self) -> Position:
        """The file after the last one yielded."""
        return Position(self._digest.count, self._digest.count)

    def stamp(self) -> SourceStamp:
        """Sizes and modification times of all files, and the digest of their names."""
        listing, size, modified = hashlib.sha256(), 0, 0
        for file in self._files:
            status = self._status(file)
            listing.update(_entry(file))
            size, modified = size + status[0], max(modified, status[1])
        return SourceStamp(
            name=self.path.name, size=size, modified_ns=modified, listing=listing.hexdigest()
        )

    def images(
        self,
        on_bad: OnBad = stop_at,
        start: Position = BEGINNING,
        earlier: PrefixDigest | None = None,
        progress: Progress | None = None,
    ) -> Iterator[SourceImages]:
        """The images in order, see ``ImageSource``; files before ``start`` are read again."""
        self._digest = RunningDigest()
        if start == BEGINNING:
            self._name_orphans(on_bad)
        # A resumed reading forms the same batches as an uninterrupted one.
        for part in batches(self._all_read(on_bad, start.number), _TOGETHER, _length):
            first = self._digest.count
            self._digest.add(len(part), chain.from_iterable(starmap(_hashed, part)))
            self._digest.check_unchanged(self.path, earlier)
            if first >= start.number:
                yield _images(part, first)
            if progress is not None:
                progress(self._digest.count, len(self._files))

    def read(self, offsets: Iterator[int]) -> Iterator[bytes]:
        """The files with these numbers."""
        for number in offsets:
            yield read_whole(self._root / self._files[number].name, MAX_FILE_BYTES)

    def image_sizes(self) -> Iterator[np.ndarray]:
        """The sizes of all files."""
        yield np.array([self._status(file)[0] for file in self._files], np.int64)

    def describe(self, key: int, offset: int) -> str:
        """An image's description for messages: its path."""
        return str(self._root / self._files[offset].name)

    def name(self, offset: int) -> str:
        """The path of the file, or of the orphan, with this number."""
        orphans = offset - len(self._files)
        return self._orphans[orphans] if orphans >= 0 else self._files[offset].name

    def choose_labels(self, choice: LabelChoice) -> "ImageFiles":
        """The files with the labels of their folders; see ``ImageSource``."""
        super().choose_labels(choice)
        labels = FolderLabels(choice.folder)
        files = (file._replace(label=labels.of(file.name)) for file in self._files)
        return ImageFiles(self.kind, self.path, self._root, files, self._orphans)

    def differences(
        self, images: int, identities: int, image_size: tuple[int, int]
    ) -> Iterator[str]:
        if self._are_folders_identities:
            yield from repeated_names(self._files.labelled_folders())

    def without_labels(self) -> "ImageFiles":
        """All files without labels, including those in no identity's folder."""
        files = (file._replace(label=UNLABELLED) for file in self._files)
        if self._orphans:
            names = chain(self._orphans, (file.name for file in self._files))
            files = (ImageFile(key, UNLABELLED, name) for key, name in enumerate(names))
        return ImageFiles(self.kind, self.path, self._root, files)

    def _all_read(self, on_bad: OnBad, first: int) -> Iterator[tuple[ImageFile, bytes | None]]:
        """All files with their bytes, None for a bad one; reports bad files from ``first`` on."""
        for number, file in enumerate(self._files):
            yield file, self._read(number, file, on_bad if number >= first else _ignore)

    def _read(self, number: int, file: ImageFile, on_bad: OnBad) -> bytes | None:
        path = self._root / file.name
        try:
            data = read_whole(path, MAX_FILE_BYTES)
        except UnreadableError as error:
            reason, kind = error.reason, None
            with suppress(OSError):  # an impossible file name
                if not path.exists():
                    kind = detect_kind(path)
                    reason += self._why_missing(path)
            if kind is not None:
                reason = f"it is {kind.what}; {kind.advice}"
            on_bad(BadRecordError(str(path), file.key, number, reason))
            return None
        return data

    def _why_missing(self, path: Path) -> str:
        """More about a missing file, for the end of a message."""
        return ""

    def _name_orphans(self, on_bad: OnBad) -> None:
        for number, name in enumerate(self._orphans, len(self._files)):
            wanted = self._root / "IDENTITY" / name
            reason = f"it is not in an identity's folder; expected {wanted}"
            on_bad(BadRecordError(str(self._root / name), None, number, reason))

    def _status(self, file: ImageFile) -> tuple[int, int]:
        """Size and modification time; zeros if the file is missing, which reading it reports."""
        try:
            status = (self._root / file.name).stat()
        except OSError:
            return 0, 0
        return status.st_size, status.st_mtime_ns


def _ignore(bad: BadRecordError) -> None:
    """Ignore a record: the quarantine already lists those from before the interruption."""


def _entry(file: ImageFile) -> bytes:
    return f"{file.key}\t{file.label}\t{file.name}\n".encode(*CODING)


def _length(read: tuple[ImageFile, bytes | None]) -> int:
    return len(read[1] or b"")


def _images(part: Sequence[tuple[ImageFile, bytes | None]], first: int) -> SourceImages:
    """The good files among those read, numbered from ``first``."""
    good = [(i, file, data) for i, (file, data) in enumerate(part, first) if data is not None]
    return SourceImages(
        np.array([file.key for _, file, _ in good], np.int64),
        np.array([file.label for _, file, _ in good], np.int64),
        np.array([i for i, _, _ in good], np.int64),
        [data for _, _, data in good],
    )


def _hashed(file: ImageFile, data: bytes | None) -> Iterator[bytes]:
    """The bytes that the digest covers."""
    yield _entry(file)
    if data is not None:
        yield f"{len(data)}\n".encode()
        yield data
