"""The protocol that every kind of source implements."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from curation.errors import UserError
from curation.labels import UNLABELLED
from curation.printable import printable
from curation.progress import Progress
from curation.sources.digests import PrefixDigest
from curation.sources.label_choice import USUAL, LabelChoice
from curation.sources.quarantine import OnBad, stop_at

SourceKind = Annotated[str, Field(pattern="^[a-z][a-z0-9-]{0,31}$")]
"""The registered name of a kind of source; stores record it"""


class SourceImages(NamedTuple):
    """Consecutive images; the arrays are int64 ``[n]``, and n may be 0.

    A source may reuse the memory of the image files for the next images.
    """

    keys: np.ndarray
    labels: np.ndarray
    """Identities; -1 if an image has no label"""
    offsets: np.ndarray
    """Byte offsets of records, or numbers of files"""
    payloads: Sequence[bytes | memoryview]
    """The image files"""

    def take(self, places: Sequence[int]) -> "SourceImages":
        """The images at these indices."""
        rows = list(places)
        payloads = [self.payloads[i] for i in rows]
        return SourceImages(self.keys[rows], self.labels[rows], self.offsets[rows], payloads)


class Position(NamedTuple):
    """The progress of a reading: the number and the offset of the next record, image or not."""

    number: int
    offset: int


class SourceStamp(BaseModel):
    """Identifies a source without reading all of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, BeforeValidator(printable)]
    """The name of a file or folder, which need not be UTF-8"""
    size: int
    """Bytes"""
    modified_ns: int
    listing: str | None
    """SHA-256 of the index of a record file, or of the list of files"""

    def of_variant(self, what: str) -> "SourceStamp":
        """The stamp of the same files with other labels."""
        listing = hashlib.sha256(f"{what} {self.listing}\n".encode()).hexdigest()
        return self.model_copy(update={"listing": listing})


class ImageSource(Protocol):
    """The images of a data set in reading order.

    Subclasses inherit the methods that have a body here.
    """

    kind: str
    """The registered name of the kind of source"""
    path: Path
    reads_again: bool = True
    """Whether ``read`` is cheap in any order; if not, a conversion that sorts keeps all it read"""
    choice: LabelChoice = USUAL
    """Where the labels are"""
    choices: frozenset[str] = frozenset()
    """The fields of ``LabelChoice`` that this kind of source supports"""

    @property
    @abstractmethod
    def position(self) -> Position:
        """The record after the last image that ``images`` yielded."""

    @property
    @abstractmethod
    def digest(self) -> PrefixDigest:
        """SHA-256 of what has been read so far; after the last image, of the whole source."""

    @abstractmethod
    def stamp(self) -> SourceStamp:
        """Identifies the source; cheap."""

    @abstractmethod
    def images(
        self,
        on_bad: OnBad = ...,
        start: Position = ...,
        earlier: PrefixDigest | None = None,
        progress: Progress | None = None,
    ) -> Iterator[SourceImages]:
        """The images from ``start`` on, as the unchanged bytes of their files.

        ``start`` and ``earlier`` are the ``position`` and ``digest`` of an interrupted reading. The
        part before ``start`` is read for its digest; ``UserError`` is raised if that differs. Bad
        records go to ``on_bad``, which raises, or returns to skip them. The unit of ``progress``
        depends on the kind of source.
        """

    @abstractmethod
    def read(self, offsets: Iterator[int]) -> Iterator[bytes]:
        """Read the image files at these offsets again."""

    @abstractmethod
    def image_sizes(self) -> Iterator[np.ndarray]:
        """The approximate bytes of each image, without reading it; int64 arrays."""

    @abstractmethod
    def describe(self, key: int, offset: int) -> str:
        """An image's description for messages."""

    def stated_image_size(self) -> tuple[int, int] | None:
        """(height, width) as stated by the source, or None."""
        return None

    def name(self, offset: int) -> str | None:
        """The file's path in the source; None if images are not files."""
        return None

    def names(self, offsets: np.ndarray) -> list[str] | None:
        """The names of several images; None if images are not files."""
        names = [self.name(offset) for offset in offsets.tolist()]
        return [name for name in names if name is not None] or None

    def other_content(self) -> str:
        """What the source has instead of images, for the end of a message, once it was read."""
        return ""

    def differences(
        self, images: int, identities: int, image_size: tuple[int, int]
    ) -> Iterator[str]:
        """Wrong statements of the source about itself, and doubts about its labels, one line of
        text each; after the images were read.
        """
        return iter(())

    def gaps(self) -> Iterator[str]:
        """Doubts whether the source is whole, one line of text each; cheap."""
        return iter(())

    def remarks(
        self, images: int, identities: int, unlabelled: int, image_size: tuple[int, int]
    ) -> Iterator[str]:
        """``gaps``, ``differences``, and the doubt whether one person is on very many images."""
        yield from self.gaps()
        yield from self.differences(images, identities, image_size)
        labelled = images - unlabelled
        if identities == 1 and labelled >= _MANY_OF_ONE:
            yield (
                f"{labelled:,} images have the same label; if they are of several people, use "
                "`curate convert --unlabelled`"
            )

    def details(self) -> dict[str, Any]:
        """What ``curate inspect`` reports besides counts, size and digest; for JSON."""
        return {}

    def without_labels(self) -> "ImageSource":
        """The same images without labels."""
        return _WithoutLabels(self)

    def choose_labels(self, choice: LabelChoice) -> "ImageSource":
        """The same images with labels from another place; ``UserError`` if they have none there."""
        if not self.choices.issuperset(name for name in choice._fields if getattr(choice, name)):
            option, kinds = _CHOICES[bool(choice.folder)]
            raise UserError(f"{self.path} is of the kind {self.kind}; {option} is for {kinds}")
        self.choice = choice
        return self

    def whole_digest(self, progress: Progress | None = None) -> str:
        """The digest of the whole source, equal to that of ``images`` at its end."""
        for _ in self.images(lambda bad: None, progress=progress):
            pass
        return self.digest.hex


def repeated(sizes: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """``count`` sizes that repeat ``sizes`` int64 ``[n]``: an estimate for ``image_sizes``.

    They come in arrays of bounded length, because ``count`` depends on what the source states.
    """
    if not len(sizes):
        return
    block = np.tile(sizes, max(1, _SIZES_TOGETHER // len(sizes)))
    for left in range(count, 0, -len(block)):
        yield block[:left]


BEGINNING = Position(0, 0)
_SIZES_TOGETHER = 1 << 16
_MANY_OF_ONE = 100
_CHOICES = (
    ("--label-key", "lists with named columns, tar and zip archives, Parquet and Arrow tables"),
    ("--identity-folder", "folders, lists, tar and zip archives"),
)


class _WithoutLabels(ImageSource):
    """A source whose labels are ignored; its stamp differs from that of the labelled source."""

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
        return self._source.stamp().of_variant("without labels")

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

    def gaps(self) -> Iterator[str]:
        return self._source.gaps()

    def details(self) -> dict[str, Any]:
        return self._source.details()

    def whole_digest(self, progress: Progress | None = None) -> str:
        return self._source.whole_digest(progress)
