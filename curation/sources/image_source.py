"""What a conversion reads from: a record file, a folder of identities, or a list of files."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Protocol

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict

from curation.files import open_regular
from curation.printable import printable
from curation.progress import Progress
from curation.sources.quarantine import OnBad
from curation.sources.read_ahead import Digest

SourceKind = Literal["records", "folder", "list"]


class SourceImages(NamedTuple):
    """Some images in a row; the arrays are int64 ``[n]``, n may be 0.

    A source may use the memory of the image files again for those that it gives next.
    """

    keys: np.ndarray
    labels: np.ndarray
    """Identities"""
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

    ``images`` gives those from the position ``start`` on. ``position`` and ``digest`` say how far
    it is when it has given some; with both a stopped reading goes on, and ``UserError`` is raised
    where the source has changed as far as that. Bad records go to ``on_bad``, which raises, or
    returns to have them skipped. Progress counts bytes of a record file, files of others.
    """

    kind: SourceKind
    path: Path

    @property
    def total(self) -> int:
        """What progress counts to."""

    @property
    def digest(self) -> Digest: ...
    @property
    def position(self) -> Position: ...
    def stamp(self) -> SourceStamp: ...
    def stated_image_size(self) -> tuple[int, int] | None: ...
    def images(
        self,
        on_bad: OnBad = ...,
        start: Position = ...,
        earlier: Digest | None = None,
        progress: Progress | None = None,
    ) -> Iterator[SourceImages]: ...
    def read(self, offsets: Iterator[int]) -> Iterator[bytes]:
        """The image files at these offsets."""

    def image_sizes(self) -> Iterator[np.ndarray]:
        """About how many bytes each image has, without reading it; int64 arrays."""

    def describe(self, key: int, offset: int) -> str:
        """How messages name an image."""

    def name(self, offset: int) -> str | None:
        """The file's path in the source, where images are files."""

    def differences(
        self, images: int, identities: int, image_size: tuple[int, int]
    ) -> Iterator[str]:
        """What the source says of itself that is not so: a line each, for people."""

    def whole_digest(self, progress: Progress | None = None) -> str:
        """The digest of all of the source, as ``images`` has it at the end."""


BEGINNING = Position(0, 0)


def file_digest(path: Path, progress: Progress | None = None) -> str:
    """SHA-256 of a file; progress counts bytes."""
    digest = hashlib.sha256()
    done = 0
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        while block := file.read(1 << 20):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(done, size)
    return digest.hexdigest()
