"""What a conversion reads from: the one protocol of all kinds of sources."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from curation.labels import UNLABELLED
from curation.printable import printable
from curation.progress import Progress
from curation.sources.digests import PrefixDigest
from curation.sources.quarantine import OnBad, stop_at

SourceKind = Annotated[str, Field(pattern="^[a-z][a-z0-9-]{0,31}$")]
"""The name under which a kind of source is registered; stores keep it"""


class SourceImages(NamedTuple):
    """Some images in a row; the arrays are int64 ``[n]``, n may be 0.

    A source may use the memory of the image files again for those that it gives next.
    """

    keys: np.ndarray
    labels: np.ndarray
    """Identities; -1 where an image has no label"""
    offsets: np.ndarray
    """Byte offsets of records, or numbers of files"""
    payloads: Sequence[bytes | memoryview]
    """The image files"""

    def take(self, places: Sequence[int]) -> "SourceImages":
        """The images at these places."""
        rows = list(places)
        payloads = [self.payloads[i] for i in rows]
        return SourceImages(self.keys[rows], self.labels[rows], self.offsets[rows], payloads)


class Position(NamedTuple):
    """How far a reading is: the number of the next record, images or not, and its offset."""

    number: int
    offset: int


class SourceStamp(BaseModel):
    """By what a source is known again without reading all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, BeforeValidator(printable)]
    """Of a file or folder, whose names need not be UTF-8"""
    size: int
    """Bytes"""
    modified_ns: int
    listing: str | None
    """SHA-256 of what names the images: the index of a record file, the list of files"""


class ImageSource(Protocol):
    """The images of a data set, in the order in which they are read.

    A class that names this one as its base has those methods that have a body here.
    """

    kind: str
    """The name under which the kind of source is registered"""
    path: Path
    reads_again: bool = True
    """Whether ``read`` is cheap in any order; else a conversion that sorts keeps what it read"""

    @property
    @abstractmethod
    def position(self) -> Position:
        """What comes next, behind the images that ``images`` has given."""

    @property
    @abstractmethod
    def digest(self) -> PrefixDigest:
        """SHA-256 of what has been read, at the end of all of the source."""

    @abstractmethod
    def stamp(self) -> SourceStamp:
        """By what the source is known again; cheap."""

    @abstractmethod
    def images(
        self,
        on_bad: OnBad = ...,
        start: Position = ...,
        earlier: PrefixDigest | None = None,
        progress: Progress | None = None,
    ) -> Iterator[SourceImages]:
        """The images from ``start`` on, their files as they are, byte for byte.

        ``start`` and ``earlier`` are the ``position`` and ``digest`` of a reading that was stopped;
        what lies before is read for its digest, and ``UserError`` raised where that is another one.
        Bad records go to ``on_bad``, which raises, or returns to have them skipped. Progress counts
        what the kind of source says.
        """

    @abstractmethod
    def read(self, offsets: Iterator[int]) -> Iterator[bytes]:
        """The image files at these offsets again."""

    @abstractmethod
    def image_sizes(self) -> Iterator[np.ndarray]:
        """About how many bytes each image has, without reading it; int64 arrays."""

    @abstractmethod
    def describe(self, key: int, offset: int) -> str:
        """How messages name an image."""

    def stated_image_size(self) -> tuple[int, int] | None:
        """(height, width) as the source states it, or None."""
        return None

    def name(self, offset: int) -> str | None:
        """The file's path in the source; None where images are no files."""
        return None

    def names(self, offsets: np.ndarray) -> list[str] | None:
        """Those of several images; None where images are no files."""
        names = [self.name(offset) for offset in offsets.tolist()]
        return [name for name in names if name is not None] or None

    def differences(
        self, images: int, identities: int, image_size: tuple[int, int]
    ) -> Iterator[str]:
        """Statements of the source about itself that are wrong: a line each, for people."""
        return iter(())

    def details(self) -> dict[str, Any]:
        """What ``curate inspect`` says of it beside counts, size and digest; for JSON."""
        return {}

    def without_labels(self) -> "ImageSource":
        """The same images without labels."""
        return _WithoutLabels(self)

    def whole_digest(self, progress: Progress | None = None) -> str:
        """The digest of all of the source, as ``images`` has it at the end."""
        for _ in self.images(lambda bad: None, progress=progress):
            pass
        return self.digest.hex


BEGINNING = Position(0, 0)


class _WithoutLabels(ImageSource):
    """A source whose labels are not taken; known again as another one than that with its labels."""

    def __init__(self, source: ImageSource) -> None:
        self._source, self.kind, self.path = source, source.kind, source.path
        self.reads_again = source.reads_again

    @property
    def position(self) -> Position:
        return self._source.position

    @property
    def digest(self) -> PrefixDigest:
        return self._source.digest

    def stamp(self) -> SourceStamp:
        stamp = self._source.stamp()
        listing = hashlib.sha256(f"without labels {stamp.listing}\n".encode()).hexdigest()
        return stamp.model_copy(update={"listing": listing})

    def images(
        self,
        on_bad: OnBad = stop_at,
        start: Position = BEGINNING,
        earlier: PrefixDigest | None = None,
        progress: Progress | None = None,
    ) -> Iterator[SourceImages]:
        for images in self._source.images(on_bad, start, earlier, progress):
            yield images._replace(labels=np.full(len(images.labels), UNLABELLED, np.int64))

    def read(self, offsets: Iterator[int]) -> Iterator[bytes]:
        return self._source.read(offsets)

    def image_sizes(self) -> Iterator[np.ndarray]:
        return self._source.image_sizes()

    def describe(self, key: int, offset: int) -> str:
        return self._source.describe(key, offset)

    def stated_image_size(self) -> tuple[int, int] | None:
        return self._source.stated_image_size()

    def name(self, offset: int) -> str | None:
        return self._source.name(offset)

    def names(self, offsets: np.ndarray) -> list[str] | None:
        return self._source.names(offsets)

    def details(self) -> dict[str, Any]:
        return self._source.details()

    def whole_digest(self, progress: Progress | None = None) -> str:
        return self._source.whole_digest(progress)
