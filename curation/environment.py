"""Reading LMDB files with plain reads, so that no content of a file can crash the process.

liblmdb maps its file into memory and trusts it, so a damaged node, or a file that is truncated
while it is read, kills the process with a bus error. Stores are written once and never changed, so
a reader needs little of LMDB: the newer of two meta pages, and the tree of pages below its root.
Here every number is checked against the page or the file that it points into before it is used.

``curation.lmdb_pages`` describes the format.
"""

import os
import struct
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np

from curation.errors import UserError
from curation.files import UnreadableError, open_regular
from curation.lmdb_pages import (
    BRANCH,
    DATABASE_WITHIN,
    DEEPEST,
    ELSEWHERE,
    FREE_FLAGS,
    HEADER,
    LEAF,
    META_BYTES,
    META_PAGE,
    NO_PAGE,
    NODE,
    OVERFLOW,
    OVERFLOW_HEADER,
    PAGE_HEADER,
    PAGE_NUMBER,
    SMALLEST_ENTRY,
    Meta,
    Tree,
    UsedPages,
    check_nodes,
    parse_meta,
)

DATA_FILE = "data.mdb"
READ_AHEAD_STEP = 128 << 10
"""The smallest common limit of one request to a disk"""

_NUMBER_BYTES = 8
"""Bytes of a key that is an image's number"""


class Environment:
    """The LMDB file ``name`` in a folder, open for reading; usable from threads and after a fork.

    ``entries`` is the stated number of entries. Raises ``UserError`` if it is not such a file, or
    is damaged, when it is opened or read.
    """

    def __init__(self, folder: Path, name: str = DATA_FILE) -> None:
        self._path = folder / name
        with open_regular(self._path) as file:
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        self._meta = meta = self._newest_meta()
        self.entries = entries = meta.main.entries
        self._page_size, self._root, self._depth = meta.page_size, meta.main.root, meta.main.depth
        self._end = (meta.last_page + 1) * meta.page_size
        self._check_length(os.fstat(self._file).st_size)
        if meta.main.flags or self._depth > DEEPEST:
            self._damaged("it is an LMDB file, but not of the kind that stores use")
        if self._root != NO_PAGE and self._root > meta.last_page:
            self._damaged(f"its root page {self._root} is outside the file")
        if entries > self._end // SMALLEST_ENTRY:
            self._damaged(f"it has no room for {entries} entries")
        self._leaves: tuple[array[int], array[int]] | None = None
        # Memory that is not allocated until it is used.
        try:
            self._offsets = np.zeros(entries, np.int64).data
            """Positions of the values by number; 0 if not known yet"""
            self._sizes = np.zeros(entries, np.uint32).data
        except MemoryError:
            raise UserError(
                f"{self._path} claims to have {entries:,} entries, more than the memory can hold"
            ) from None

    def get(self, key: bytes, most: int | None = None) -> bytes | None:
        """The value of ``key``, or None; ``UserError`` if it has more than ``most`` bytes."""
        number = self._root
        if number == NO_PAGE:
            return None
        for _ in range(1, self._depth):
            children = self._children(number)
            number = next(child for first, child in reversed(children) if first <= key)
        page, count = self._page(number, LEAF)
        for place in self._places(page, count):
            if self._key(page, place) == key:
                offset, size = self._place_of_value(number, page, place)
                if most is not None and size > most:
                    self._damaged(f"its {key!r} has {size:,} bytes; the limit is {most:,}")
                return self._read(offset, size)
        return None

    def get_numbered(self, numbers: Iterable[int], most: int) -> Iterator[bytes | None]:
        """The values of these numbers, stored as eight big-endian bytes; None if one is missing.

        Numbers must be below ``entries``, and precede all other keys, from 0 without gaps. A value
        of more than ``most`` bytes is damage.
        """
        offsets, sizes = self._offsets, self._sizes
        for number in numbers:
            if not offsets[number] and not self._locate(number):
                yield None
                continue
            size = sizes[number]
            if size > most:
                self._damaged(f"image {number} has {size:,} bytes; the limit is {most:,}")
            yield self._read(offsets[number], size)

    def total_size(self, numbers: Iterable[int]) -> int:
        """The bytes of the values of these numbers, from the leaf pages alone; 0 for a missing one.

        See ``get_numbered``.
        """
        return sum(
            self._sizes[number]
            for number in numbers
            if self._offsets[number] or self._locate(number)
        )

    def read_ahead(self, first: int, last: int) -> None:
        """Make the system read from the value of number ``first`` to that of ``last`` at once.

        A hint, for values stored in the order of their keys. Returns when reading has started; does
        nothing except on Linux.
        """
        if not (hasattr(os, "posix_fadvise") and self._locate(first) and self._locate(last)):
            return
        end = self._offsets[last] + self._sizes[last]
        # Per call, Linux reads only as much as one disk request, and ignores the rest.
        for offset in range(self._offsets[first], end, READ_AHEAD_STEP):
            size = min(READ_AHEAD_STEP, end - offset)
            os.posix_fadvise(self._file, offset, size, os.POSIX_FADV_WILLNEED)

    def all_keys(self) -> Iterator[bytes]:
        """All keys, in ascending order."""
        return (key for *_, key in self._all_places())

    def all_items(self, most: int) -> Iterator[tuple[bytes, bytes | None]]:
        """All keys, ascending, with their values; None for values of more than ``most`` bytes."""
        left = self._end
        for number, page, place, key in self._all_places():
            offset, size = self._place_of_value(number, page, place)
            left -= size
            if left < 0:
                self._damaged("its values overlap")
            yield key, self._read(offset, size) if size <= most else None

    def _all_places(self) -> Iterator[tuple[int, bytes, int, bytes]]:
        """The number and the bytes of a leaf, a place in it, and its key, in ascending order."""
        before: bytes | None = None
        for _, number in self._all_leaves():
            page, count = self._page(number, LEAF)
            for place in self._places(page, count):
                key = self._key(page, place)
                if before is not None and key <= before:
                    self._damaged(f"its keys are not in order on page {number}")
                before = key
                yield number, page, place, key

    def check_pages(self) -> None:
        """Check everything in the file that liblmdb trusts when it writes.

        Raises ``UserError`` if a page of a tree is invalid, or a page is used twice, including as a
        free page. Values are not checked.
        """
        meta, pages = self._meta, UsedPages(self._end // self._page_size)
        is_odd = meta.free.flags != FREE_FLAGS or meta.main.page_size != 0
        if is_odd or meta.transaction >= NO_PAGE >> 8:
            self._damaged("its meta page was not written by a conversion")
        for number in (0, 1):
            head = PAGE_HEADER.unpack(self._read(number * self._page_size, HEADER))
            if (head[0], head[2]) != (number, META_PAGE):
                self._damaged(f"page {number} is not a meta page")
        try:
            for tree in (meta.free, meta.main):
                if (tree.root == NO_PAGE) != (tree.depth == 0) or tree.depth > DEEPEST:
                    raise ValueError("a tree has pages, but its depth is 0")
                self._check_tree(tree, pages)
            pages.check()
        except UserError:
            raise
        except ValueError as error:
            self._damaged(str(error))

    def _check_tree(self, tree: Tree, pages: UsedPages) -> None:
        waiting = [] if tree.root == NO_PAGE else [(tree.root, 1)]
        entries = 0
        while waiting:
            number, level = waiting.pop()
            pages.add(number, 1)
            is_leaf = level == tree.depth
            page, count = self._page(number, LEAF if is_leaf else BRANCH)
            places = self._places(page, count)
            check_nodes(page, places, is_leaf)
            if not is_leaf:
                waiting += [(child, level + 1) for _, child in self._children(number)]
                continue
            entries += count
            for place in places:
                self._check_value(number, page, place, pages, tree is self._meta.free)
        if entries != tree.entries:
            raise ValueError(f"it has {entries:,} entries; its meta page says {tree.entries:,}")

    def _check_value(
        self, number: int, page: bytes, place: int, pages: UsedPages, is_free: bool
    ) -> None:
        offset, size = self._place_of_value(number, page, place)
        _, flags, key_size = NODE.unpack_from(page, place)
        if flags == ELSEWHERE:
            begin, count = offset // self._page_size, -(-(HEADER + size) // self._page_size)
            pages.add(begin, count)
            # Images never change, so their pages, spread over the whole file, are not read.
            if is_free or key_size != _NUMBER_BYTES:
                header = OVERFLOW_HEADER.unpack(self._read(offset - HEADER, HEADER))
                if (header[0], *header[2:]) != (begin, OVERFLOW, count):
                    raise ValueError(f"page {begin} does not match the tree")
        if is_free:
            pages.add_free(self._read(offset, size))

    def _locate(self, number: int) -> bool:
        """Record the locations of all values on this number's leaf page; whether there is one.

        A process reads each leaf at most once, in any order of images.
        """
        if self._leaves is None:
            self._leaves = self._numbered_leaves()
        firsts, leaves = self._leaves
        leaf = bisect_right(firsts, number) - 1
        if leaf < 0:
            return False
        page, count = self._page(leaves[leaf], LEAF)
        last = min(firsts[leaf] + count, self.entries)
        for key, place in enumerate(self._places(page, count)[: last - firsts[leaf]], firsts[leaf]):
            if self._key(page, place) == key.to_bytes(8, "big"):
                # The offset is set last, because other threads check for it.
                offset, self._sizes[key] = self._place_of_value(leaves[leaf], page, place)
                self._offsets[key] = offset
        return self._offsets[number] > 0

    def _numbered_leaves(self) -> "tuple[array[int], array[int]]":
        """The first numbers of the leaf pages with numbered keys, and the page numbers."""
        firsts, leaves = array("Q"), array("Q")
        for first, page in self._all_leaves():
            if len(first) not in (0, 8):
                break
            firsts.append(int.from_bytes(first, "big"))
            leaves.append(page)
        return firsts, leaves

    def _all_leaves(self) -> Iterator[tuple[bytes, int]]:
        """All leaf pages in order, each with the key that separates it from earlier ones."""
        before: bytes | None = None
        waiting = [] if self._root == NO_PAGE else [(b"", self._root, 1)]
        while waiting:
            first, number, level = waiting.pop()
            if level < self._depth:
                children = [(key or first, page) for key, page in self._children(number)]
                waiting += [(key, page, level + 1) for key, page in reversed(children)]
                continue
            # This also ends the walk if a page occurs in the tree more than once.
            if before is not None and first <= before:
                self._damaged(f"its keys are not in order before page {number}")
            before = first
            yield first, number

    def _children(self, number: int) -> list[tuple[bytes, int]]:
        """First keys and numbers of the pages below a branch page; the first key is empty."""
        page, count = self._page(number, BRANCH)
        children = []
        for index, place in enumerate(self._places(page, count)):
            low, high, _ = self._node(page, place)
            children.append((self._key(page, place) if index else b"", low | high << 32))
        return children

    def _page(self, number: int, kind: int) -> tuple[bytes, int]:
        """A page of the tree, and its number of nodes, at least one."""
        self._check_inside(number * self._page_size, self._page_size)
        page = self._read(number * self._page_size, self._page_size)
        found, _, flags, lower, _ = PAGE_HEADER.unpack_from(page)
        if found != number or flags != kind or not HEADER + 2 <= lower <= self._page_size:
            self._damaged(f"page {number} does not match the tree")
        return page, (lower - HEADER) // 2

    def _places(self, page: bytes, count: int) -> tuple[int, ...]:
        """The offsets of the nodes of a page."""
        return struct.unpack_from(f"<{count}H", page, HEADER)

    def _node(self, page: bytes, place: int) -> tuple[int, int, int]:
        """Size of the value (in a branch: half of a page number), flags, size of the key."""
        if place + NODE.size > self._page_size:
            self._damaged("a node extends beyond its page")
        return NODE.unpack_from(page, place)

    def _key(self, page: bytes, place: int) -> bytes:
        _, _, size = self._node(page, place)
        begin = place + NODE.size
        if begin + size > self._page_size:
            self._damaged("a key extends beyond its page")
        return page[begin : begin + size]

    def _place_of_value(self, number: int, page: bytes, place: int) -> tuple[int, int]:
        """The file offset and size of a node's value, after its key has been read."""
        size, flags, key_size = NODE.unpack_from(page, place)
        begin = place + NODE.size + key_size
        room = PAGE_NUMBER.size if flags == ELSEWHERE else size
        if flags & DATABASE_WITHIN:
            raise UserError(
                f"{self._path} contains the named database {self._key(page, place)!r}; only "
                "environments without named databases are read: copy its entries into one"
            )
        if flags not in (0, ELSEWHERE) or begin + room > self._page_size:
            self._damaged(f"a value extends beyond its page {number}")
        if flags != ELSEWHERE:
            return number * self._page_size + begin, size
        far = PAGE_NUMBER.unpack_from(page, begin)[0] * self._page_size + HEADER
        self._check_inside(far, size)
        return far, size

    def _read(self, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._file, size, offset)
            while len(data) < size:  # one read returns at most 2 GiB
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

    def _newest_meta(self) -> Meta:
        first = parse_meta(os.pread(self._file, META_BYTES, 0))
        second = None
        if first is not None:
            second = parse_meta(os.pread(self._file, META_BYTES, first.page_size))
        if first is None or second is None:
            self._damaged("it does not start like an LMDB file")
        if first.page_size != second.page_size:
            self._damaged("its two meta pages state different page sizes")
        return max(first, second, key=lambda meta: meta.transaction)

    def _check_length(self, length: int) -> None:
        if length < self._end:
            raise UserError(
                f"{self._path} is truncated: it has {length} bytes of {self._end}; make it again"
            )

    def _damaged(self, reason: str) -> NoReturn:
        raise UserError(f"{self._path} is damaged: {reason}; make it again")
