"""The pages of an LMDB file: their layout, and checks of what they contain.

A file (format 1, LMDB 0.9) is a sequence of pages: two meta pages, then leaf pages with the keys,
branch pages above them, and overflow pages for values that do not fit twice into a leaf. Source:
LMDB's ``mdb.c`` (``MDB_page``, ``MDB_node``, ``MDB_meta``, ``OVPAGES``). All numbers are
little-endian, with 64-bit sizes. The page size is read from the meta page, so files are portable.
"""

import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

HEADER: Final = 16
"""Bytes of a page's header"""
_MAGIC, _VERSION = 0xBEEFC0DE, 1
NO_PAGE = (1 << 64) - 1
# Page number, padding, flags, then start and end of the free space, or the number of pages.
PAGE_HEADER = struct.Struct("<QHHHH")
OVERFLOW_HEADER = struct.Struct("<QHHI")
BRANCH, LEAF, OVERFLOW, META_PAGE = 1, 2, 4, 8
FREE_FLAGS = 8
"""Flags of the tree of free pages: its keys are integers"""
# Size of the data, flags, size of the key; in a branch, size and flags hold the page number.
NODE = struct.Struct("<IHH")
ELSEWHERE = 1
"""Flag of a node whose value is on overflow pages; the node holds a page number instead."""
DATABASE_WITHIN = 2
"""Flag of a node that is a named database"""
PAGE_NUMBER = struct.Struct("<Q")
# Magic, version, address, map size, two databases (free pages, main), last page, transaction.
_META = struct.Struct("<IIQQ48s48sQQ")
META_BYTES = HEADER + _META.size
# Padding (in the first database: the page size), flags, depth, four counts, root page.
_DATABASE = struct.Struct("<IHHQQQQQ")
DEEPEST = 32
"""Maximum depth of the tree, as in liblmdb (``CURSOR_STACK``)"""
SMALLEST_ENTRY = NODE.size + 2
"""Bytes: a node and its pointer"""


@dataclass(frozen=True)
class Tree:
    """A tree according to a meta page: that of free pages, or that of entries."""

    page_size: int
    """Set in the tree of free pages only"""
    flags: int
    depth: int
    entries: int
    root: int


@dataclass(frozen=True)
class Meta:
    """The content of a meta page."""

    free: Tree
    main: Tree
    last_page: int
    transaction: int

    @property
    def page_size(self) -> int:
        return self.free.page_size


class UsedPages:
    """Records used pages of a file; raises ``ValueError`` if one is used more than once."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._begins, self._lengths = array("Q", (0, 1)), array("Q", (1, 1))

    def add(self, begin: int, length: int) -> None:
        """Record consecutive pages."""
        self._begins.append(begin)
        self._lengths.append(length)
        if len(self._begins) > self._count:  # also ends cycles of pages
            raise ValueError("it has pages that are used twice")

    def add_free(self, listed: bytes) -> None:
        """Record the pages of a free list: their count, then their numbers, descending."""
        numbers = np.frombuffer(listed, "<u8", len(listed) // 8)
        if not len(numbers) or numbers[0] >= len(numbers):
            raise ValueError("a list of free pages is longer than its entry")
        for number in numbers[1 : int(numbers[0]) + 1].tolist():
            self.add(number, 1)

    def check(self) -> None:
        """Check all recorded pages."""
        begins = np.frombuffer(self._begins, np.uint64)
        order = np.argsort(begins)
        begins = begins[order]
        ends = begins + np.frombuffer(self._lengths, np.uint64)[order]
        if (ends[:-1] > begins[1:]).any() or ends[-1] > self._count:
            raise ValueError("it has pages that are used twice, or are behind its end")


def check_nodes(page: bytes, places: Sequence[int], is_leaf: bool) -> None:
    """Raise ``ValueError`` unless the nodes fill their page from its end without gaps."""
    *_, lower, upper = PAGE_HEADER.unpack_from(page)
    end = upper
    for place in sorted(places):
        if place != end or place + NODE.size > len(page):
            raise ValueError("the nodes of a page are not contiguous")
        size, flags, key_size = NODE.unpack_from(page, place)
        value = 0 if not is_leaf else PAGE_NUMBER.size if flags == ELSEWHERE else size
        end += NODE.size + key_size + value
        end += end % 2
    if end != len(page) or not HEADER + 2 * len(places) <= lower <= upper:
        raise ValueError("the nodes of a page are not contiguous")


def parse_meta(page: bytes) -> Meta | None:
    if len(page) < META_BYTES:
        return None
    magic, version, _, _, free, main, last, transaction = _META.unpack_from(page, HEADER)
    size = _DATABASE.unpack(free)[0]
    plausible = 512 <= size <= 1 << 16 and size & (size - 1) == 0
    if magic != _MAGIC or version != _VERSION or not plausible:
        return None
    return Meta(_parse_tree(free), _parse_tree(main), last, transaction)


def _parse_tree(database: bytes) -> Tree:
    page_size, flags, depth, _, _, _, entries, root = _DATABASE.unpack(database)
    return Tree(page_size, flags, depth, entries, root)
