"""The ``.idx`` file of a record file: the byte offset of each key."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from curation.errors import UserError
from curation.text_files import MOST_LINES, open_text
from curation.text_numbers import signed

_PART_BYTES = 1 << 20
_LIMIT = 1 << 62
_ADVICE = "fetch the file again, or remove it to read the records in order"


class RecordIndex(NamedTuple):
    """An ``.idx`` file or a part of it, sorted by byte offset; int64 ``[records]``."""

    keys: np.ndarray
    offsets: np.ndarray


def read_index(path: Path) -> RecordIndex:
    """Read an ``.idx`` file, which has one ``key TAB byte offset`` per line.

    Raises ``UserError`` with the line if the file is malformed or an offset occurs twice.
    """
    parts = list(_parts(path))
    keys, offsets = (
        np.concatenate([part[column] for part in parts]) if parts else np.empty(0, np.int64)
        for column in (0, 1)
    )
    order = np.argsort(offsets, kind="stable")
    index = RecordIndex(keys[order], offsets[order])
    twice = index.offsets[1:][np.diff(index.offsets) == 0]
    if twice.size:
        raise UserError(f"{path}: the byte offset {twice[0]} occurs twice; {_ADVICE}")
    return index


class IndexWalk:
    """Looks up the keys of records that are visited in file order, from the byte ``start``.

    Entries whose offset was not visited are passed to ``on_missing`` as (key, offset). An ordered
    index, as MXNet writes it, is read in parts; any other index is held in memory.
    """

    def __init__(self, path: Path, start: int, on_missing: Callable[[int, int], None]) -> None:
        ordered = is_ordered(path)
        self._parts = _parts(path) if ordered else iter([read_index(path)])
        self._repeated = np.empty(0, np.int64) if ordered else _repeated_keys(read_index(path))
        self._on_missing = on_missing
        self._entries = RecordIndex(np.empty(0, np.int64), np.empty(0, np.int64))
        self._take(start - 1)

    def keys_at(self, offsets: np.ndarray) -> np.ndarray:
        """The keys of records at these ascending offsets; -1 where the index has none."""
        keys, known = self._take(int(offsets[-1]))
        places = np.searchsorted(known, offsets)
        found = np.append(known, -1)[places] == offsets
        if found.sum() < len(known):
            missing = ~np.isin(known, offsets)
            for key, offset in zip(keys[missing].tolist(), known[missing].tolist(), strict=True):
                self._on_missing(key, offset)
        return np.where(found, np.append(keys, -1)[places], -1)

    def are_repeated(self, offsets: np.ndarray) -> np.ndarray:
        """Whether the key of each record also occurs at an earlier offset."""
        return np.isin(offsets, self._repeated)

    def check_end(self) -> None:
        """Pass the remaining entries to ``on_missing``."""
        self.keys_at(np.array([_LIMIT]))

    def _take(self, last: int) -> RecordIndex:
        """Remove and return the entries up to the offset ``last``."""
        parts = [self._entries]
        while not len(parts[-1].offsets) or parts[-1].offsets[-1] <= last:
            part = next(self._parts, None)
            if part is None:
                break
            parts.append(part)
        if len(parts) > 1:
            self._entries = RecordIndex(*map(np.concatenate, zip(*parts, strict=True)))
        count = np.searchsorted(self._entries.offsets, last, "right")
        taken = RecordIndex(*(column[:count] for column in self._entries))
        self._entries = RecordIndex(*(column[count:] for column in self._entries))
        return taken


def is_ordered(path: Path) -> bool:
    """Whether keys and offsets both strictly ascend."""
    last = RecordIndex(np.array([-1]), np.array([-1]))
    for part in _parts(path):
        for before, now in zip(last, part, strict=True):
            if not (np.diff(now, prepend=before[-1:]) > 0).all():
                return False
        last = part
    return True


def _repeated_keys(index: RecordIndex) -> np.ndarray:
    """The offsets of records whose key also occurs at an earlier offset."""
    _, first = np.unique(index.keys, return_index=True)
    return np.delete(index.offsets, first)


def record_sizes(path: Path, file_size: int) -> Iterator[np.ndarray]:
    """The size in bytes of each record in an ordered index, as int64 arrays.

    Their sum is at most that of the record file, even if the index is of another file.
    """
    before = np.empty(0, np.int64)
    for part in _parts(path):
        offsets = np.minimum(part.offsets, file_size)
        yield np.diff(offsets, prepend=before)
        before = offsets[-1:]
    yield file_size - before


def _parts(path: Path) -> Iterator[RecordIndex]:
    """The entries in file order, about ten thousand at a time."""
    number = 1
    with open_text(path, "an index (.idx)") as file:
        for lines in _blocks_of_lines(file, path):
            numbers = _parse(lines)
            if numbers is None:
                numbers = np.array(
                    [
                        _parse_line(line, path, i)
                        for i, line in enumerate(lines, number)
                        if not line.isspace()
                    ],
                    np.int64,
                )
            yield RecordIndex(*numbers.reshape(-1, 2).T)
            number += len(lines)
            if number > MOST_LINES:
                raise UserError(f"{path} has more than {MOST_LINES:,} lines; it is not an index")


def _blocks_of_lines(file: BinaryIO, path: Path) -> Iterator[list[bytes]]:
    rest = b""
    while block := file.read(_PART_BYTES):
        lines = (rest + block).splitlines(keepends=True)
        rest = lines.pop()  # the next block may continue it
        if len(rest) > _PART_BYTES:
            raise UserError(
                f"{path} has a line of more than {_PART_BYTES} bytes; it is not an index"
            )
        if lines:
            yield lines
    if rest:
        yield [rest]


def _parse(lines: list[bytes]) -> np.ndarray | None:
    """All numbers in the lines, parsed fast; None if anything is malformed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            numbers = np.fromstring(b"".join(lines), np.int64, sep=" ")
    except (ValueError, DeprecationWarning):
        return None
    fits = len(numbers) == 2 * len(lines)
    return numbers if fits and (numbers >= 0).all() and (numbers < _LIMIT).all() else None


def _parse_line(line: bytes, path: Path, number: int) -> tuple[int, int]:
    words = line.decode("ascii", "backslashreplace").split()
    numbers = [found for found in map(signed, words) if found is not None]
    if len(words) != 2 or len(numbers) != 2:
        shown = line[:40].decode("ascii", "backslashreplace").strip()
        raise UserError(
            f"{path}: line {number}: {shown!r} is not a key and a byte offset; {_ADVICE}"
        )
    key, offset = numbers
    if not 0 <= key < _LIMIT or not 0 <= offset < _LIMIT:
        raise UserError(
            f"{path}: line {number}: key {key} or byte offset {offset} is out of range; {_ADVICE}"
        )
    return key, offset


def write_index(path: Path, entries: list[tuple[int, int]]) -> None:
    """Write ``(key, byte offset)`` entries in the format of MXNet's ``.idx``."""
    Path(path).write_text("".join(f"{key}\t{offset}\n" for key, offset in entries), "ascii")
