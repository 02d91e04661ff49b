"""Reads the files in a tar archive in order.

Python's ``tarfile`` is several times slower and trusts the sizes that an archive states.

Sources: POSIX.1-2017, pax Interchange Format; GNU tar's manual, "Basic Tar Format".
"""

import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

from curation.sources.samples import MOST_BYTES, ArchiveError, ArchiveFile, Roles

BLOCK = 512
_ADLER = 65_521
_ZEROS = bytes(BLOCK)
_MOST_ZEROS = 1 << 21
"""Blocks; a short gzipped file may unpack to any number of them"""
_MOST_EXTENSION = 1 << 20
"""Maximum bytes of a long name or pax header"""
_LONGEST_NAME = 4096
"""Bytes, as in Linux; compressed, a name of a megabyte takes a kilobyte of the archive"""
_FILES, _SPARSE = (b"0", b"\0", b"7"), b"S"
_KINDS = {b"1": "a link", b"2": "a link", b"5": "a folder", b"S": "a sparse file"}
_WITHOUT_BYTES = (b"1", b"2", b"3", b"4", b"5", b"6")
_CLEANED = (b".", b"/", b"")
"""First bytes of names that are changed"""
_EXTENSIONS = (b"x", b"L", b"K", b"g")


class ArchiveBytes(Protocol):
    """The bytes of an archive from its start."""

    def read(self, size: int, /) -> bytes: ...

    def skip(self, size: int, /) -> None: ...


class _Extension(NamedTuple):
    """The extension headers before a member: pax headers or GNU long names."""

    offset: int
    """Position of the first of them"""
    name: str = ""
    size: int = -1
    is_sparse: bool = False


def archive_files(file: ArchiveBytes, roles: Roles) -> Iterator[ArchiveFile]:
    """The images and labels in a file of one or several archives; other files are skipped.

    Raises ``ArchiveError`` if it is damaged.
    """
    read, role_of = file.read, roles.of
    offset, before = 0, None
    block = read(BLOCK)
    while True:
        if len(block) < BLOCK or (zlib.adler32(block) & 0xFFFF) != _right_sum(block[148:156]):
            if block != _ZEROS:
                raise _damaged(offset, _no_header(block))
            offset, block = _after_zeros(file, offset)
            if not block:
                return
            continue
        size = _size(block[124:136])
        if size < 0:
            raise _damaged(offset, "a header's size is not a number")
        kind, name, begin = block[156:157], _name(block), offset
        if kind != b"0":
            if kind in _WITHOUT_BYTES:
                size = 0
            elif kind in _EXTENSIONS:
                data = _bytes_of(file, size, offset)
                before = _extended(before or _Extension(offset), kind, data)
                offset += BLOCK + size + -size % BLOCK
                block = read(BLOCK)
                continue
        if before is not None:
            begin, name = before.offset, before.name or name
            size = size if before.size < 0 else before.size
            kind, before = _SPARSE if before.is_sparse else kind, None
        if "\\" in name and "/" not in name:  # written on Windows
            name = name.replace("\\", "/").removeprefix("./")
        key, role = role_of(name)
        padded = size + -size % BLOCK
        if role is None or kind not in _FILES or size > MOST_BYTES[role]:
            if role is not None:
                reason = _refusal(kind, size, role)
                yield ArchiveFile(name, key, role, begin, b"", reason)
            file.skip(padded)
            block = read(BLOCK)
        else:
            data = read(padded + BLOCK)  # including the next header
            if len(data) < size:
                raise _damaged(begin, f"{name} is cut off")
            yield ArchiveFile(name, key, role, begin, data[:size])
            block = data[padded:]
        offset += BLOCK + padded


def _after_zeros(file: ArchiveBytes, offset: int) -> tuple[int, bytes]:
    """The position and bytes of the block after the zeros at ``offset``; empty at the file's end.

    Another archive may follow the end of the first, as after ``cat a.tar b.tar > all.tar``.
    """
    for count in range(1, _MOST_ZEROS):
        block = file.read(BLOCK)
        if block.strip(b"\0"):
            return offset + count * BLOCK, block
        if len(block) < BLOCK:
            if count == 1:
                raise _damaged(offset + BLOCK, _no_header(block))
            return offset + count * BLOCK, b""
    raise _damaged(offset, f"{_MOST_ZEROS * BLOCK:,} zero bytes follow")


def _damaged(offset: int, reason: str) -> ArchiveError:
    return ArchiveError(offset, f"the archive is damaged at byte {offset:,}: {reason}")


def _refusal(kind: bytes, size: int, role: str) -> str:
    if kind not in _FILES:
        return f"it is {_KINDS.get(kind, 'a device')} in the archive, not a plain file"
    return f"it has {size:,} bytes, more than {MOST_BYTES[role]:,}"


def _no_header(block: bytes) -> str:
    if not block:
        return "its end-of-archive blocks are missing: it was cut off"
    if len(block) < BLOCK:
        return "a header is cut off"
    return "there is no header with a valid checksum"


@lru_cache(1 << 12)
def _right_sum(field: bytes) -> int:
    """The lower half of Adler-32 for a header with this checksum; -1 if it is malformed.

    It is the sum of all bytes plus 1, modulo 65,521, and several times faster than ``sum``.
    """
    stated = _number(field)
    if stated is None or len(field) < 8 or not 0 <= stated <= BLOCK * 255:
        return -1
    return (stated - 8 * 32 + sum(field) + 1) % _ADLER


@lru_cache(1 << 12)
def _size(field: bytes) -> int:
    """The size, or -1 if the field is not a number."""
    number = _number(field)
    return -1 if number is None else number


def _number(field: bytes) -> int | None:
    """A number in octal digits or GNU's base 256; None for anything else."""
    if field[:1] >= b"\x80":
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else None
    digits = field.strip(b" \0") or b"0"
    return None if digits.strip(b"01234567") else int(digits, 8)


def _name(block: bytes) -> str:
    end = block.find(b"\0", 0, 100)
    name = block[: 100 if end < 0 else end]
    if not block[345] and name[:1] not in _CLEANED:  # the usual case
        return name.decode("utf-8", "surrogateescape")
    if block[345] and block[257:263] == b"ustar\0":
        name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    return _text(name)


def _bytes_of(file: ArchiveBytes, size: int, offset: int) -> bytes:
    """The bytes of a long name or pax header, without padding."""
    if size > _MOST_EXTENSION:
        raise _damaged(offset, f"a long name or pax header has {size:,} bytes")
    padded = size + -size % BLOCK
    data = file.read(padded)
    if len(data) < padded:
        raise _damaged(offset, "a long name or pax header is cut off")
    return data[:size]


def _extended(before: _Extension, kind: bytes, data: bytes) -> _Extension:
    if kind == b"L":
        return before._replace(name=_long_name(before.offset, data.split(b"\0", 1)[0]))
    return _pax(before, data) if kind == b"x" else before


def _pax(before: _Extension, data: bytes) -> _Extension:
    """Name, size and whether the file is sparse, from the records ``LENGTH KEY=VALUE``."""
    begin, name, size, is_sparse = before
    at = 0
    while at < len(data):
        length, blank, _ = data[at : at + 20].partition(b" ")
        count = int(length) if blank and length.isdigit() else 0
        key, equals, value = data[at + len(length) + 1 : at + count].rstrip(b"\n").partition(b"=")
        if not (count and equals) or at + count > len(data):
            raise _damaged(begin, "a pax header has none of the form LENGTH KEY=VALUE")
        if key == b"path":
            name = _long_name(begin, value)
        elif key == b"size":
            if not value.isdigit() or len(value) > 18:
                raise _damaged(begin, "a pax header's size is not a number")
            size = int(value)
        is_sparse = is_sparse or key.startswith(b"GNU.sparse.")
        at += count
    return _Extension(begin, name, size, is_sparse)


def _long_name(offset: int, name: bytes) -> str:
    if len(name) > _LONGEST_NAME:
        reason = f"the name of a file has {len(name):,} bytes, more than {_LONGEST_NAME:,}"
        raise _damaged(offset, reason)
    return _text(name)


def _text(name: bytes) -> str:
    text = name.decode("utf-8", "surrogateescape")
    return text.removeprefix("./").lstrip("/") if text[:1] in ("/", ".") else text
