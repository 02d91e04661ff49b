"""Image files as the source of a conversion, each with the label of its identity."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curation.errors import UserError
from curation.file_kinds import what_is_this
from curation.files import UnreadableError, read_whole
from curation.images import MAX_FILE_BYTES
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

_TOGETHER = 64
"""Files that are read before their images are given on"""


class ImageFile(NamedTuple):
    """An image of a data set: its key, its identity's label (-1 for none), its path below the
    root."""

    key: int
    label: int
    name: str


class ImageFiles(ImageSource):
    """Image files in the order of ``files``, below ``root``.

    ``orphans`` are the names of files that lie in no identity's folder: bad records, numbered after
    the files. Its digest is the SHA-256 of key, label, path and bytes of each file. ``files`` is
    held in memory, about 200 bytes each.
    """

    def __init__(
        self,
        kind: str,
        path: Path,
        root: Path,
        files: list[ImageFile],
        orphans: Sequence[str] = (),
    ) -> None:
        self.kind, self.path = kind, path
        self._root, self._files, self._orphans = root, files, orphans
        self._hash = hashlib.sha256()
        self._done = 0

    def __len__(self) -> int:
        return len(self._files)

    @property
    def digest(self) -> PrefixDigest:
        """SHA-256 of the files that have been read."""
        return PrefixDigest(self._done, self._hash.hexdigest())

    @property
    def position(self) -> Position:
        """The file after those that were given."""
        return Position(self._done, self._done)

    def stamp(self) -> SourceStamp:
        """Sizes and times of all files, digest of their names."""
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
        self._hash, self._done = hashlib.sha256(), 0
        if start == BEGINNING:
            self._name_orphans(on_bad)
        while self._done < len(self._files):
            first = self._done
            # A reading that goes on takes the same files together as one that was not stopped.
            part = self._files[first : first + _TOGETHER]
            tell = on_bad if first >= start.number else _told
            read = [self._read(number, file, tell) for number, file in enumerate(part, first)]
            self._done += len(part)
            self._check_unchanged(earlier)
            good = [i for i, data in enumerate(read) if data is not None]
            if first >= start.number:
                yield SourceImages(
                    np.array([part[i].key for i in good], np.int64),
                    np.array([part[i].label for i in good], np.int64),
                    np.array([first + i for i in good], np.int64),
                    [data for data in read if data is not None],
                )
            if progress is not None:
                progress(self._done, len(self._files))

    def read(self, offsets: Iterator[int]) -> Iterator[bytes]:
        """The files with these numbers."""
        for number in offsets:
            yield read_whole(self._root / self._files[number].name, MAX_FILE_BYTES)

    def image_sizes(self) -> Iterator[np.ndarray]:
        """The sizes of all files."""
        yield np.array([self._status(file)[0] for file in self._files], np.int64)

    def describe(self, key: int, offset: int) -> str:
        """How messages name an image: by its path."""
        return str(self._root / self._files[offset].name)

    def name(self, offset: int) -> str:
        """The path of the file with this number, or of the orphan after them."""
        orphans = offset - len(self._files)
        return self._orphans[orphans] if orphans >= 0 else self._files[offset].name

    def without_labels(self) -> "ImageFiles":
        """All files, also those that lie in no identity's folder, without labels."""
        names = [*self._orphans, *(file.name for file in self._files)]
        keys = [file.key for file in self._files] if not self._orphans else range(len(names))
        files = [ImageFile(key, UNLABELLED, name) for key, name in zip(keys, names, strict=True)]
        return ImageFiles(self.kind, self.path, self._root, files)

    def _read(self, number: int, file: ImageFile, on_bad: OnBad) -> bytes | None:
        self._hash.update(_entry(file))
        path = self._root / file.name
        try:
            data = read_whole(path, MAX_FILE_BYTES)
        except UnreadableError as error:
            kind = None if path.exists() else what_is_this(path)
            reason = error.reason if kind is None else f"it is {kind.what}; {kind.advice}"
            on_bad(BadRecordError(str(path), file.key, number, reason))
            return None
        self._hash.update(f"{len(data)}\n".encode())
        self._hash.update(data)
        return data

    def _name_orphans(self, on_bad: OnBad) -> None:
        for number, name in enumerate(self._orphans, len(self._files)):
            wanted = self._root / "IDENTITY" / name
            reason = f"it lies in no identity's folder; expected {wanted}"
            on_bad(BadRecordError(str(self._root / name), None, number, reason))

    def _check_unchanged(self, earlier: PrefixDigest | None) -> None:
        if earlier is not None and earlier.length == self._done and earlier != self.digest:
            raise UserError(
                f"{self.path} has changed since the conversion was stopped; remove the unfinished "
                "store to start over"
            )

    def _status(self, file: ImageFile) -> tuple[int, int]:
        """Bytes and time of change; zeros where the file is missing, which reading it will say."""
        try:
            status = (self._root / file.name).stat()
        except OSError:
            return 0, 0
        return status.st_size, status.st_mtime_ns


def _told(bad: BadRecordError) -> None:
    """What was bad before a conversion was stopped stands in its quarantine."""


def _entry(file: ImageFile) -> bytes:
    text = f"{file.key}\t{file.label}\t{file.name}\n"
    return text.encode("utf-8", "surrogateescape")
