"""Zip archives as a source: parts of a folder tree, or samples as in WebDataset shards.

Python's ``zipfile`` needs more than half a kilobyte of memory per file. This module reads the
central directory in step with the files. Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3, 4.5.3
and 4.6.9.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from curation.files import open_regular, regular_file_size
from curation.images import MAX_FILE_BYTES
from curation.sources.entries import SHARD_BITS, EntrySource, ImageEntry
from curation.sources.image_source import repeated
from curation.sources.opening import source
from curation.sources.samples import (
    IMAGE,
    MOST_BYTES,
    ArchiveError,
    ArchiveFile,
    Roles,
    Samples,
)
from curation.sources.shards import OpenShards, check_kind, find_shards

SUFFIXES = (".zip",)
_END, _END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q")
_LOCATOR, _ENTRY = struct.Struct("<4sLQL"), struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LARGEST_COMMENT = 1 << 16
_STORED, _DEFLATED = 0, 8
_FULL = 0xFFFFFFFF
_SIZES, _UNICODE_PATH = 1, 0x7075
"""Extra fields"""
_ENCRYPTED, _UTF8 = 1, 1 << 11
_LOOKED_AT = 1000
"""Images from which sizes are estimated"""


class ZipMember(NamedTuple):
    """A file in an archive; its directory entry is at byte ``entry``."""

    name: str
    entry: int
    offset: int
    """Position of its local header"""
    method: int
    flags: int
    checksum: int
    packed: int
    size: int


class ZipError(ValueError):
    """The archive is damaged; nothing after that position is read."""


def _is_zip(path: Path) -> bool:
    return bool(find_shards(path, SUFFIXES))


@source("zip", "zip archives (.zip; one or a folder of them)", _is_zip, unit="bytes")
def open_zips(path: Path) -> "ZipSource":
    """The archives at ``path``; ``UserError`` if one is not a zip archive."""
    shards = find_shards(path, SUFFIXES)
    check_kind(shards, "zip archive", ("zip", "npz", "torch"))
    return ZipSource(path, shards)


class ZipSource(EntrySource):
    """The images in zip archives; an entry's position is that of its directory entry."""

    choices = frozenset({"key", "folder"})

    def __init__(self, path: Path, shards: Sequence[Path]) -> None:
        self._samples = Samples()
        super().__init__("zip", path, shards)
        self._begins = np.cumsum([0, *map(regular_file_size, shards)]).tolist()
        self._file: BinaryIO | None = None
        """The archive being read"""

    def progress_of(self, offset: int) -> int:
        number = offset >> SHARD_BITS
        if self._file is None or self._file.closed:
            return self._begins[number + 1]
        return self._begins[number] + self._file.tell()

    def entries(self) -> Iterator[ImageEntry]:
        samples = self._samples = Samples(self.choice)
        for number, shard in enumerate(self._shards):
            with open_regular(shard) as directory, open_regular(shard) as self._file:
                files = _files(directory, self._file, samples.roles)
                yield from samples.entries(files, number << SHARD_BITS)

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
                try:
                    member = _read_entry(file, self.place_of(offset))
                    yield _unpacked(file, member)
                except ValueError:
                    yield b""  # the conversion reports that the source has changed

    def image_sizes(self) -> Iterator[np.ndarray]:
        """From the directories, assuming that all files are like the first images."""
        roles = Roles()
        for shard in self._shards:
            first = list(islice(_images_in(shard, roles), _LOOKED_AT))
            sizes = [min(member.size, MAX_FILE_BYTES) for member in first]
            taken = 1 + sum(member.packed + _LOCAL.size + _ENTRY.size for member in first)
            count = len(sizes) * regular_file_size(shard) // taken
            yield from repeated(np.array(sizes, np.int64), count)


def _images_in(shard: Path, roles: Roles) -> Iterator[ZipMember]:
    """The images of an archive, as far as its directory is intact."""
    with open_regular(shard) as file, suppress(ZipError):
        for member in members_of(file):
            if roles.of(member.name)[1] == IMAGE:
                yield member


def members_of(file: BinaryIO) -> Iterator[ZipMember]:
    """The files in directory order; ``ZipError`` if the directory is damaged."""
    begin, end, count = _directory(file)
    at = begin
    for _ in range(count):
        if at >= end:
            raise ZipError("its directory is shorter than it says")
        member = _read_entry(file, at)
        at = file.tell()
        yield member


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Start and end of the directory, and its number of entries."""
    size = file.seek(0, 2)
    begin = max(0, size - _LARGEST_COMMENT - _END.size)
    file.seek(begin)
    tail = file.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise ZipError(
            "it has no directory at its end: it was cut off, or is part of a split archive"
        )
    _, disk, _, _, count, length, offset, _ = _END.unpack_from(tail, at)
    end = begin + at
    if disk not in (0, 0xFFFF):
        raise ZipError("it is a part of an archive that was split; join the parts first")
    if _FULL in (length, offset) or count == 0xFFFF:
        if end < _LOCATOR.size:
            raise ZipError("its directory is not at the stated position")
        file.seek(end - _LOCATOR.size)
        mark, _, end64, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
        if mark == b"PK\6\7":
            if end64 > size - _END64.size:
                raise ZipError("its directory is not at the stated position")
            file.seek(end64)
            mark, *_, count, length, offset = _END64.unpack(file.read(_END64.size))
            end = end64
            if mark != b"PK\6\6":
                raise ZipError("its directory is not at the stated position")
    if length > end or offset != end - length or count > length // _ENTRY.size:
        raise ZipError("its directory is not at the stated position")
    return offset, end, count


def _read_entry(file: BinaryIO, at: int) -> ZipMember:
    file.seek(at)
    head = file.read(_ENTRY.size)
    if len(head) < _ENTRY.size or head[:4] != b"PK\1\2":
        raise ZipError(f"its directory is damaged at byte {at:,}")
    (_, _, _, flags, method, _, _, checksum, packed, size, *lengths, _, _, _, offset) = (
        _ENTRY.unpack(head)
    )
    name, extra, comment = (file.read(length) for length in lengths[:3])
    if len(comment) < lengths[2]:
        raise ZipError(f"its directory is damaged at byte {at:,}")
    if _FULL in (packed, size, offset):
        size, packed, offset = _large(extra, size, packed, offset)
    named = _name(name, flags, extra).lstrip("/").removeprefix("./")
    return ZipMember(named, at, offset, method, flags, checksum, packed, size)


def _name(raw: bytes, flags: int, extra: bytes) -> str:
    """The name with slashes. Invalid bytes are not replaced, so that folders stay distinct.

    The format says code page 437 if nothing else is stated, but macOS writes UTF-8 then. Other code
    pages, such as GBK, cannot be told from 437.
    """
    if b"/" not in raw:  # else a backslash is the second byte of a character, or part of the name
        raw = raw.replace(b"\\", b"/")
    if raw.isascii():  # the usual case
        return raw.decode("ascii")
    if flags & _UTF8:
        return raw.decode("utf-8", "surrogateescape")
    for name in (_unicode_path(raw, extra), raw):
        with suppress(UnicodeDecodeError):
            if name:
                return name.decode("utf-8")
    return raw.decode("cp437")


def _unicode_path(raw: bytes, extra: bytes) -> bytes:
    """The name in UTF-8 that WinRAR and Info-ZIP add; b"" if there is none for this name."""
    field = _extra_field(extra, _UNICODE_PATH)
    is_valid = field[:1] == b"\1" and field[1:5] == struct.pack("<L", zlib.crc32(raw))
    return field[5:] if is_valid else b""


def _large(extra: bytes, *stated: int) -> tuple[int, ...]:
    """Size, packed size and offset; those at their maximum are taken from the zip64 field."""
    field = _extra_field(extra, _SIZES)
    if not field:
        return stated
    values = iter([word[0] for word in struct.iter_unpack("<Q", field[: len(field) // 8 * 8])])
    return tuple(next(values, _FULL) if one == _FULL else one for one in stated)


def _extra_field(extra: bytes, wanted: int) -> bytes:
    """The content of the first extra field of a kind; b"" if there is none."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def _files(directory: BinaryIO, file: BinaryIO, roles: Roles) -> Iterator[ArchiveFile]:
    """The images and labels of an archive; ``ArchiveError`` if it is damaged."""
    at, left = 0, directory.seek(0, 2)
    try:
        for member in members_of(directory):
            at = member.entry
            key, role = roles.of(member.name)
            if role is None:  # a folder's name ends with a slash
                continue
            left -= member.packed
            if left < 0:
                raise ZipError("its files overlap")
            reason = _refusal(member, role)
            data = b""
            if not reason:
                try:
                    data = _unpacked(file, member)
                except ValueError as error:
                    reason = str(error)
            yield ArchiveFile(member.name, key, role, at, data, reason)
    except (ZipError, struct.error) as error:
        raise ArchiveError(at + 1, f"the archive is damaged: {error}") from None


def _refusal(member: ZipMember, role: str) -> str:
    """Why the file is refused; "" if it is accepted."""
    if member.flags & _ENCRYPTED:
        return "it is encrypted; unpack the archive first"
    if member.method not in (_STORED, _DEFLATED):
        return f"it is compressed by method {member.method}; allowed: 0 (stored) and 8 (deflated)"
    larger = max(member.size, member.packed)
    if larger > MOST_BYTES[role]:
        return f"it has {larger:,} bytes, more than {MOST_BYTES[role]:,}"
    return ""


def _unpacked(file: BinaryIO, member: ZipMember) -> bytes:
    """The bytes of a file within the size limit; ``ValueError`` if they contradict the header."""
    head = b""
    if member.offset < member.entry:  # zip64's offset may be larger than a file can be
        file.seek(member.offset)
        head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size or head[:4] != b"PK\3\4":
        raise ValueError("its bytes are not at the position that the directory states")
    *_, name, extra = _LOCAL.unpack(head)
    file.read(name + extra)
    data = file.read(member.packed)
    if member.method == _DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
        except zlib.error as error:
            raise ValueError(f"it cannot be unpacked: {error}") from None
    if len(data) != member.size or zlib.crc32(data) != member.checksum:
        raise ValueError("its bytes differ from the checksum in the directory")
    return data
