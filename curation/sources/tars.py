"""Tar archives as a source, plain or gzipped: WebDataset shards or folder trees.

Nothing is unpacked to disk. A plain archive can be read again at any position. For a gzipped one
with unsorted labels, the conversion keeps what it has read.
"""

import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np

from curation.file_kinds import detect_kind
from curation.files import open_regular, regular_file_size
from curation.sources.entries import SHARD_BITS, EntrySource, ImageEntry
from curation.sources.image_source import repeated
from curation.sources.opening import source
from curation.sources.samples import IMAGE, ArchiveError, ArchiveFile, Roles, Samples
from curation.sources.shards import OpenShards, check_kind, find_shards
from curation.sources.tar_headers import archive_files

PLAIN, GZIPPED = (".tar",), (".tar.gz", ".tgz")
_BUFFER, _SHORT = 1 << 18, 1 << 12
_MOST_SKIPPED = 1 << 30
"""Maximum bytes of one file in a gzipped archive that are decompressed to skip it"""
_LOOKED_AT = 8 << 20
"""Bytes of an archive from which image sizes are estimated"""


def _is_tar(path: Path) -> bool:
    if find_shards(path, PLAIN + GZIPPED):
        return True
    kind = detect_kind(path) if path.is_file() and not path.suffix else None
    return kind is not None and kind.name == "tar"


@source(
    "tar",
    "tar archives (.tar, .tar.gz; WebDataset's shards, one or a folder of them)",
    _is_tar,
    unit="bytes",
)
def open_tars(path: Path) -> "TarSource":
    """The archives at ``path``; ``UserError`` if one is not a tar archive."""
    shards = find_shards(path, PLAIN + GZIPPED) or [path]
    check_kind(shards, "tar archive", ("tar", "gzip"))
    return TarSource(path, shards)


class TarSource(EntrySource):
    """The images in tar archives."""

    choices = frozenset({"key", "folder"})

    def __init__(self, path: Path, shards: Sequence[Path]) -> None:
        self._samples = Samples()
        super().__init__("tar", path, shards)
        self._gzipped = [_is_gzipped(shard) for shard in shards]
        self.reads_again = not any(self._gzipped)
        self._begins = np.cumsum([0, *map(regular_file_size, shards)]).tolist()
        self._raw: BinaryIO | None = None
        """The archive being read"""

    def progress_of(self, offset: int) -> int:
        number, byte = offset >> SHARD_BITS, self.place_of(offset)
        begin, end = self._begins[number : number + 2]
        if self._gzipped[number] and self._raw is not None:
            return int(end if self._raw.closed else begin + self._raw.tell())
        return int(begin + byte)

    def entries(self) -> Iterator[ImageEntry]:
        samples = self._samples = Samples(self.choice)
        for number, shard in enumerate(self._shards):
            with open_regular(shard, _BUFFER) as self._raw:
                file = _Unpacked(self._raw) if self._gzipped[number] else _Plain(self._raw)
                yield from samples.entries(_files(file, samples.roles), number << SHARD_BITS)

    def differences(
        self, images: int, identities: int, image_size: tuple[int, int]
    ) -> Iterator[str]:
        return self._samples.remarks(identities)

    def other_content(self) -> str:
        return self._samples.other_content()

    def read(self, offsets: Iterator[int]) -> Iterator[bytes]:
        with OpenShards() as opened:
            for offset in offsets:
                file = opened[self.shard_of(offset)]
                file.seek(self.place_of(offset))
                try:
                    yield next(archive_files(_Plain(file), Roles(self.choice))).payload
                except (ArchiveError, StopIteration):
                    yield b""  # the conversion reports that the source has changed

    def image_sizes(self) -> Iterator[np.ndarray]:
        """Extrapolated from the first images of the first archive."""
        sizes, taken = [0], 1
        with open_regular(self._shards[0], _BUFFER) as raw:
            file = _Unpacked(raw) if self._gzipped[0] else _Plain(raw)
            with suppress(ArchiveError):
                for found in _files(file, Roles()):
                    if raw.tell() > _LOOKED_AT:
                        break
                    if found.role == IMAGE:
                        sizes.append(len(found.payload))
                        taken = raw.tell()
        count = (len(sizes) - 1) * self.stamp().size // taken
        yield from repeated(np.array(sizes[1:], np.int64), count)


def _files(file: "_Plain | _Unpacked", roles: Roles) -> Iterator[ArchiveFile]:
    """The images and labels of an archive; ``ArchiveError`` if it cannot be read."""
    offset = 0
    try:
        for found in archive_files(file, roles):
            offset = found.offset
            yield found
    except (OSError, EOFError, zlib.error) as error:
        reason = f"it cannot be read past byte {offset:,}: {error}"
        raise ArchiveError(offset + 1, reason) from None


class _Plain:
    """An uncompressed file."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self._file = file

    @cached_property
    def _size(self) -> int:
        here = self._file.tell()
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(here)
        return size

    def skip(self, size: int) -> None:
        if size < _SHORT:  # already in the buffer
            self._file.read(size)
        elif size > self._size - self._file.tell():
            raise OSError(f"it has fewer than the {size:,} bytes of a file in it: it was cut off")
        else:
            self._file.seek(size, os.SEEK_CUR)


class _Unpacked:
    """A gzipped file, decompressed while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = gzip.GzipFile(fileobj=file)
        self.read = self._file.read

    def skip(self, size: int) -> None:
        if size > _MOST_SKIPPED:
            raise OSError(f"a file in it has {size:,} bytes")
        while size > 0:
            data = self._file.read(min(size, _BUFFER))
            if not data:
                return
            size -= len(data)


def _is_gzipped(path: Path) -> bool:
    kind = detect_kind(path)
    return kind is not None and kind.name == "gzip"
