"""The faces that a run has cut out so far, stored on disk, and their use as a source.

``rows.jsonl`` has one line per photograph; ``faces.bin`` holds the JPEG files of the faces one
after the other. After an interruption at any byte, both are truncated to the last complete
photograph.
"""

import os
import zlib
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, BinaryIO, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from curation.errors import UserError
from curation.json_text import parse_record
from curation.photographs.faces import JudgedFace
from curation.photographs.photograph import Photograph
from curation.progress import Progress
from curation.sources.digests import PrefixDigest, RunningDigest
from curation.sources.image_source import (
    BEGINNING,
    ImageSource,
    Position,
    SourceImages,
    SourceStamp,
)
from curation.sources.quarantine import OnBad, stop_at

ROWS_FILE, FACES_FILE = "rows.jsonl", "faces.bin"
KIND = "photographs"
_TOGETHER = 64
_SYNC_EVERY = 256
"""Maximum photographs to repeat after a power failure"""
_LONGEST_ROW = 1 << 20
Count = Annotated[int, Field(ge=0, lt=1 << 48)]


class FaceFile(BaseModel):
    """A face and the position of its JPEG file in ``faces.bin``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    face: JudgedFace
    offset: Count
    length: Count
    """0 if the face was not chosen"""
    checksum: Count
    """CRC-32"""
    label: int = Field(ge=-1, lt=1 << 31)
    """Label of the photograph's subject; -1 if unlabelled"""


class PhotographRow(BaseModel):
    """A processed photograph."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    photograph: Count
    """Its number in the list"""
    reason: str | None
    """Why it could not be read"""
    faces: tuple[FaceFile, ...]


class KeptFaces:
    """Appends photographs to the files in ``folder``; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.done, rows_size, faces_size = _sound(folder)
        """Photographs already processed"""
        self._rows = _open_at(folder / ROWS_FILE, rows_size)
        self._faces = _open_at(folder / FACES_FILE, faces_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._rows.close()
        self._faces.close()

    def add(self, photograph: Photograph, labels: Sequence[int]) -> None:
        """Add the next photograph of the list with the labels of its faces."""
        files = []
        for (face, jpeg), label in zip(photograph.faces, labels, strict=True):
            place = {"offset": self._faces.tell(), "length": len(jpeg)}
            self._faces.write(jpeg)
            files.append(FaceFile(face=face, label=label, checksum=zlib.crc32(jpeg), **place))
        reason = None if photograph.reason is None else " ".join(photograph.reason.split())
        row = PhotographRow(photograph=self.done, reason=reason, faces=tuple(files))
        self._faces.flush()
        self._rows.write(row.model_dump_json().encode() + b"\n")
        self._rows.flush()
        self.done += 1
        if self.done % _SYNC_EVERY == 0:
            self.sync()

    def sync(self) -> None:
        """Flush everything to disk."""
        for file in (self._faces, self._rows):
            os.fsync(file.fileno())


def read_rows(folder: Path) -> Iterator[PhotographRow]:
    """The processed photographs in list order."""
    for row, _ in _whole_rows(folder):
        yield row


def read_face(folder: Path, file: FaceFile) -> bytes:
    """The JPEG file of a face; ``UserError`` if it has changed since it was written."""
    with (folder / FACES_FILE).open("rb") as faces:
        return _read(faces, folder, file.offset, file.length, file.checksum)


def _sound(folder: Path) -> tuple[int, int, int]:
    """The number of complete photographs, and the sizes of the two files up to there."""
    done = rows_size = faces_size = 0
    there = (folder / FACES_FILE).stat().st_size if (folder / FACES_FILE).exists() else 0
    for row, size in _whole_rows(folder):
        end = max([faces_size, *(file.offset + file.length for file in row.faces)])
        if end > there:
            break
        done, rows_size, faces_size = done + 1, rows_size + size, end
    return done, rows_size, faces_size


def _whole_rows(folder: Path) -> Iterator[tuple[PhotographRow, int]]:
    """Each row with its bytes, up to the first that is incomplete or out of sequence."""
    path = folder / ROWS_FILE
    if not path.exists():
        return
    with path.open("rb") as rows:
        for number, line in enumerate(iter(lambda: rows.readline(_LONGEST_ROW), b"")):
            try:
                row = parse_record(line, PhotographRow)
            except ValueError:
                return
            if row.photograph != number or not line.endswith(b"\n"):
                return
            yield row, len(line)


def _open_at(path: Path, size: int) -> BinaryIO:
    file = path.open("r+b" if path.exists() else "w+b")
    file.truncate(size)
    file.seek(size)
    return file


def _read(faces: BinaryIO, folder: Path, offset: int, length: int, checksum: int) -> bytes:
    faces.seek(offset)
    data = faces.read(length)
    if zlib.crc32(data) != checksum:
        raise UserError(
            f"{folder / FACES_FILE} is damaged at byte {offset:,}; remove {folder} to start over"
        )
    return data


class KeptFacesSource(ImageSource):
    """The kept faces as a source; keys are those of the table of faces.

    ``names`` are the photographs' names; ``stamp`` identifies the run.
    """

    kind = KIND

    def __init__(self, path: Path, folder: Path, names: list[str], stamp: SourceStamp) -> None:
        self.path, self._folder, self._stamp, self._photographs = path, folder, stamp, names
        columns, self._several = _columns(folder)
        self._keys, self._labels, self._places, self._lengths, self._checksums = columns[:5]
        self._of, self._number = columns[5:]
        self._digest = RunningDigest()

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def position(self) -> Position:
        return Position(self._digest.count, self._digest.count)

    @property
    def digest(self) -> PrefixDigest:
        """SHA-256 of the run's stamp and of key, label and bytes of each face."""
        return self._digest.value

    def stamp(self) -> SourceStamp:
        return self._stamp

    def images(
        self,
        on_bad: OnBad = stop_at,
        start: Position = BEGINNING,
        earlier: PrefixDigest | None = None,
        progress: Progress | None = None,
    ) -> Iterator[SourceImages]:
        self._digest = RunningDigest(str(self._stamp.listing).encode())
        while (first := self._digest.count) < len(self):
            numbers = np.arange(first, min(first + _TOGETHER, len(self)))
            payloads = list(self.read(iter(numbers.tolist())))
            heads = [f"{self._keys[i]} {self._labels[i]}\n".encode() for i in numbers.tolist()]
            both = zip(heads, payloads, strict=True)
            self._digest.add(len(numbers), chain.from_iterable(both))
            self._digest.check_unchanged(self.path, earlier)
            if first >= start.number:
                yield SourceImages(self._keys[numbers], self._labels[numbers], numbers, payloads)
            if progress is not None:
                progress(self._digest.count, len(self))

    def read(self, offsets: Iterator[int]) -> Iterator[bytes]:
        with (self._folder / FACES_FILE).open("rb") as faces:
            for i in offsets:
                place, length = int(self._places[i]), int(self._lengths[i])
                yield _read(faces, self._folder, place, length, int(self._checksums[i]))

    def image_sizes(self) -> Iterator[np.ndarray]:
        yield self._lengths

    def describe(self, key: int, offset: int) -> str:
        return f"face {key} of {self.name(offset)}"

    def name(self, offset: int) -> str:
        """The photograph's path; with several faces PATH/1, PATH/2, ..."""
        photograph = int(self._of[offset])
        name = self._photographs[photograph]
        return f"{name}/{self._number[offset]}" if photograph in self._several else name


def _columns(folder: Path) -> tuple[np.ndarray, set[int]]:
    """Key, label, position, length, CRC-32, photograph and index in it of each kept face.

    int64 ``[7, F]``, and the photographs with several faces.
    """
    found, several = array("q"), set()
    key = 0
    for row in read_rows(folder):
        if len(row.faces) > 1:
            several.add(row.photograph)
        for number, file in enumerate(row.faces, 1):
            if file.face.fate == "kept":
                place = (file.offset, file.length, file.checksum)
                found.extend((key, file.label, *place, row.photograph, number))
            key += 1
    return np.array(found, np.int64).reshape(-1, 7).T, several
