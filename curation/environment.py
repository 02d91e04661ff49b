"""LMDB files, read by plain reads: nothing that such a file says can crash the process.

liblmdb maps its file into memory and believes it, so a damaged node, or a file that becomes shorter
while it is read, ends the process with a bus error. Stores are written once and never changed, so a
reader needs little of LMDB: the newer of two meta pages, and the tree of pages below its root
(``curation.conversion.lmdb_pages`` has their form). Here every number is compared with the page or
the file that it points into before it is used. Files may come from liblmdb as well.
"""

import os
import struct
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from curation.conversion import lmdb_pages as pages
from curation.conversion.lmdb_pages import ELSEWHERE, HEADER, NODE, PAGE_HEADER, PAGE_NUMBER
from curation.errors import UserError
from curation.files import UnreadableError, open_regular

DATA_FILE = "data.mdb"
READ_AHEAD_STEP = 128 << 10
"""The smallest limit that is usual for one request to a disk"""
_DEEPEST = 32
"""Levels of the tree, as in liblmdb (``CURSOR_STACK``)"""

_SMALLEST_ENTRY = NODE.size + 2
"""Bytes: a node and its pointer"""


@dataclass(frozen=True)
class _Meta:
    """What a meta page says of the file."""

    page_size: int
    last_page: int
    transaction: int
    flags: int
    depth: int
    entries: int
    root: int


class Environment:
    """The LMDB file in a folder, open for reading; also in threads and after a fork.

    ``entries`` is how many it says that it has. Raises ``UserError`` where it is no such file, or
    damaged, here and when it is read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / DATA_FILE
        with open_regular(self._path) as file:
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        meta = self._newest_meta()
        self.entries = meta.entries
        self._page_size, self._root, self._depth = meta.page_size, meta.root, meta.depth
        self._end = (meta.last_page + 1) * meta.page_size
        self._check_length(os.fstat(self._file).st_size)
        if meta.flags or meta.depth > _DEEPEST:
            self._damaged("it is an LMDB file of another kind than stores are")
        if meta.root != pages.NO_PAGE and meta.root > meta.last_page:
            self._damaged(f"its root page {meta.root} lies outside the file")
        if meta.entries > self._end // _SMALLEST_ENTRY:
            self._damaged(f"it has no room for {meta.entries} entries")
        self._leaves: tuple[array[int], array[int]] | None = None
        # Memory that costs nothing until it is used.
        self._offsets = np.zeros(meta.entries, np.int64).data
        """Where the values of numbers lie; 0 where that is not known yet"""
        self._sizes = np.zeros(meta.entries, np.uint32).data

    def get(self, key: bytes, most: int | None = None) -> bytes | None:
        """The value under ``key``, or None; ``UserError`` where it has more than ``most`` bytes."""
        number = self._root
        if number == pages.NO_PAGE:
            return None
        for _ in range(1, self._depth):
            children = self._children(number)
            number = next(child for first, child in reversed(children) if first <= key)
        page, count = self._page(number, pages.LEAF)
        for place in self._places(page, count):
            if self._key(page, place) == key:
                offset, size = self._place_of_value(number, page, place)
                if most is not None and size > most:
                    self._damaged(f"its {key!r} has {size:,} bytes; at most {most:,} can be")
                return self._read(offset, size)
        return None

    def get_numbered(self, numbers: Iterable[int], most: int) -> Iterator[bytes | None]:
        """The values under these numbers, as eight bytes, big-endian; None where one is missing.

        Numbers are below ``entries``, and must come first in the file, from 0 on without gaps. A
        value of more than ``most`` bytes is damage.
        """
        offsets, sizes = self._offsets, self._sizes
        for number in numbers:
            if not offsets[number] and not self._locate(number):
                yield None
                continue
            size = sizes[number]
            if size > most:
                self._damaged(f"image {number} has {size:,} bytes; at most {most:,} can be")
            yield self._read(offsets[number], size)

    def read_ahead(self, first: int, last: int) -> None:
        """Have the system read from the value of number ``first`` to that of ``last`` in one go.

        A hint, for values that lie in the order of their keys. Returns when the reading is under
        way; does nothing where the system is not Linux.
        """
        if not (hasattr(os, "posix_fadvise") and self._locate(first) and self._locate(last)):
            return
        end = self._offsets[last] + self._sizes[last]
        # Linux reads no more for one call than a disk takes in one request, and forgets the rest.
        for offset in range(self._offsets[first], end, READ_AHEAD_STEP):
            size = min(READ_AHEAD_STEP, end - offset)
            os.posix_fadvise(self._file, offset, size, os.POSIX_FADV_WILLNEED)

    def all_keys(self) -> Iterator[bytes]:
        """All keys, in ascending order."""
        before: bytes | None = None
        for _, number in self._all_leaves():
            page, count = self._page(number, pages.LEAF)
            for place in self._places(page, count):
                key = self._key(page, place)
                if before is not None and key <= before:
                    self._damaged(f"its keys are not in order on page {number}")
                yield key
                before = key

    def _locate(self, number: int) -> bool:
        """Note where all values lie that share a leaf page with this number's; whether it is one.

        Each leaf is read once in a process, at most, however images are mixed.
        """
        if self._leaves is None:
            self._leaves = self._numbered_leaves()
        firsts, leaves = self._leaves
        leaf = bisect_right(firsts, number) - 1
        if leaf < 0:
            return False
        page, count = self._page(leaves[leaf], pages.LEAF)
        last = min(firsts[leaf] + count, self.entries)
        for key, place in enumerate(self._places(page, count)[: last - firsts[leaf]], firsts[leaf]):
            if self._key(page, place) == key.to_bytes(8, "big"):
                # The offset last: another thread may look whether it is there.
                offset, self._sizes[key] = self._place_of_value(leaves[leaf], page, place)
                self._offsets[key] = offset
        return self._offsets[number] > 0

    def _numbered_leaves(self) -> "tuple[array[int], array[int]]":
        """The first numbers of the leaf pages that have numbers as keys, and these pages."""
        firsts, leaves = array("Q"), array("Q")
        for first, page in self._all_leaves():
            if len(first) not in (0, 8):
                break
            firsts.append(int.from_bytes(first, "big"))
            leaves.append(page)
        return firsts, leaves

    def _all_leaves(self) -> Iterator[tuple[bytes, int]]:
        """All leaf pages in order, each with a key that separates it from those before it."""
        before: bytes | None = None
        waiting = [] if self._root == pages.NO_PAGE else [(b"", self._root, 1)]
        while waiting:
            first, number, level = waiting.pop()
            if level < self._depth:
                children = [(key or first, page) for key, page in self._children(number)]
                waiting += [(key, page, level + 1) for key, page in reversed(children)]
                continue
            # Nor can a page that hangs in the tree more than once make the way endless.
            if before is not None and first <= before:
                self._damaged(f"its keys are not in order before page {number}")
            before = first
            yield first, number

    def _children(self, number: int) -> list[tuple[bytes, int]]:
        """First keys and numbers of the pages below a branch page; the first key is empty."""
        page, count = self._page(number, pages.BRANCH)
        children = []
        for index, place in enumerate(self._places(page, count)):
            low, high, _ = self._node(page, place)
            children.append((self._key(page, place) if index else b"", low | high << 32))
        return children

    def _page(self, number: int, kind: int) -> tuple[bytes, int]:
        """A page of the tree, and how many nodes it has: one at least."""
        self._check_inside(number * self._page_size, self._page_size)
        page = self._read(number * self._page_size, self._page_size)
        found, _, flags, lower, _ = PAGE_HEADER.unpack_from(page)
        if found != number or flags != kind or not HEADER + 2 <= lower <= self._page_size:
            self._damaged(f"page {number} is not what the tree says")
        return page, (lower - HEADER) // 2

    def _places(self, page: bytes, count: int) -> tuple[int, ...]:
        """Where the nodes of a page begin."""
        return struct.unpack_from(f"<{count}H", page, HEADER)

    def _node(self, page: bytes, place: int) -> tuple[int, int, int]:
        """Size of the value (of a branch: half of a page number), flags, size of the key."""
        if place + NODE.size > self._page_size:
            self._damaged("a node goes beyond its page")
        return NODE.unpack_from(page, place)

    def _key(self, page: bytes, place: int) -> bytes:
        _, _, size = self._node(page, place)
        begin = place + NODE.size
        if begin + size > self._page_size:
            self._damaged("a key goes beyond its page")
        return page[begin : begin + size]

    def _place_of_value(self, number: int, page: bytes, place: int) -> tuple[int, int]:
        """Where in the file the value of a node lies whose key has been read, and its size."""
        size, flags, key_size = NODE.unpack_from(page, place)
        begin = place + NODE.size + key_size
        room = PAGE_NUMBER.size if flags == ELSEWHERE else size
        if flags not in (0, ELSEWHERE) or begin + room > self._page_size:
            self._damaged(f"a value goes beyond its page {number}")
        if flags != ELSEWHERE:
            return number * self._page_size + begin, size
        far = PAGE_NUMBER.unpack_from(page, begin)[0] * self._page_size + HEADER
        self._check_inside(far, size)
        return far, size

    def _read(self, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._file, size, offset)
            while len(data) < size:  # the system reads 2 GiB at most at a time
                more = os.pread(self._file, size - len(data), offset + len(data))
                if not more:
                    self._check_length(offset + len(data))
                data += more
        except OSError as error:
            raise UnreadableError(self._path, f"cannot read it: {error.strerror}") from None
        return data

    def _check_inside(self, offset: int, size: int) -> None:
        if offset + size > self._end:
            self._damaged(f"it points to byte {offset + size}; it ends at {self._end}")

    def _newest_meta(self) -> _Meta:
        first = _parse_meta(os.pread(self._file, pages.PAGE, 0))
        second = None
        if first is not None:
            second = _parse_meta(os.pread(self._file, pages.PAGE, first.page_size))
        if first is None or second is None:
            self._damaged("it does not begin like an LMDB file")
        return max(first, second, key=lambda meta: meta.transaction)

    def _check_length(self, length: int) -> None:
        if length < self._end:
            raise UserError(
                f"{self._path} is truncated: it has {length} bytes of {self._end}; make it again"
            )

    def _damaged(self, reason: str) -> NoReturn:
        raise UserError(f"{self._path} is damaged: {reason}; make it again")


def _parse_meta(page: bytes) -> _Meta | None:
    if len(page) < HEADER + pages.META.size:
        return None
    magic, version, _, _, free, main, last, transaction = pages.META.unpack_from(page, HEADER)
    size = pages.DATABASE.unpack(free)[0]
    plausible = 512 <= size <= 1 << 16 and size & (size - 1) == 0
    if magic != pages.MAGIC or version != pages.VERSION or not plausible:
        return None
    _, flags, depth, _, _, _, entries, root = pages.DATABASE.unpack(main)
    return _Meta(size, last, transaction, flags, depth, entries, root)
