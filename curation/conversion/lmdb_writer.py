"""Writes an LMDB file from front to back, at the speed of the disk.

LMDB's own appends allocate, clear and copy each page and begin with the tree. Keys that come in
order need none of that: values and leaf pages are written as they come, the branch pages above them
and the meta pages at the end. What is in the file then follows from keys and values alone, and
writing can go on at every place where a leaf page ended.
"""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from curation.conversion import lmdb_pages as pages
from curation.conversion.lmdb_pages import HEADER, PAGE
from curation.conversion.page_file import PageFile, Value

FIRST_PAGE = 2
"""The first two are the meta pages."""
LONGEST_KEY = 16
"""Bytes"""
_FAR_ROOM = pages.FAR_NODE + 2
"""Bytes of a leaf page that such a node and its pointer take"""
_FITTING = (PAGE - HEADER) // _FAR_ROOM
"""Nodes that fit on a leaf page where all values have pages of their own"""

Child = tuple[bytes, int]
"""The first key below a page, and the page's number."""


class Leaf(NamedTuple):
    """A leaf page that was written: how many entries came before it, and its number."""

    first_entry: int
    page: int


class LmdbWriter:
    """Appends entries in the order of their keys; ``finish`` makes the file an LMDB file.

    ``page``, ``entries`` and ``overflow`` say where a stopped writer goes on: they are its state
    after ``end_leaf``. Other threads write; ``OSError`` (a full disk) comes with a later call.
    """

    def __init__(
        self, path: Path, page: int = FIRST_PAGE, entries: int = 0, overflow: int = 0
    ) -> None:
        self._file = PageFile(path, page)
        self.page, self.entries, self.overflow = page, entries, overflow
        self._nodes: list[bytes] = []
        self._free = PAGE - HEADER
        self._leaves: list[Leaf] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.__exit__(*exception)

    def put(self, key: bytes, value: bytes) -> None:
        """Append an entry; ``key`` comes after all keys before it."""
        if pages.is_inline(len(key), len(value)):
            self._add_node(pages.leaf_node(key, value))
        else:
            self.put_stream(key, len(value), [value])

    def put_numbered(self, values: Sequence[Value]) -> None:
        """Append values under their numbers, as eight bytes, big-endian: ``put``, but faster."""
        sizes = np.fromiter(map(len, values), np.int64, len(values))
        if len(sizes) == 0 or pages.is_inline(8, int(sizes.min())):
            for value in values:
                self.put(self.entries.to_bytes(8, "big"), bytes(value))
            return
        self._put_far(values, sizes)

    def put_stream(self, key: bytes, size: int, blocks: Iterable[bytes]) -> None:
        """Append an entry whose value of ``size`` bytes comes in blocks."""
        if pages.is_inline(len(key), size):
            self.put(key, b"".join(blocks))
            return
        node = pages.far_node(key, size, self.page)
        if not self._has_room(node):
            self.end_leaf()
            node = pages.far_node(key, size, self.page)
        count = pages.overflow_pages(size)
        self._file.append(pages.overflow_header(self.page, count))
        for block in blocks:
            self._file.append(block)
        self._file.append(bytes(count * PAGE - HEADER - size))
        self.page += count
        self.overflow += count
        self._add_node(node)

    def end_leaf(self) -> None:
        """Write the leaf page that is being filled."""
        if self._nodes:
            self._file.append(self._finished_leaf())

    def take_leaves(self) -> list[Leaf]:
        """The leaf pages that were written since the last call."""
        leaves, self._leaves = self._leaves, []
        return leaves

    def flush(self) -> list[Future[mmap.mmap]]:
        """Hand everything to the threads; all of it is written when these are done."""
        return self._file.flush()

    def sync(self) -> None:
        """Bring what was written to the disk; another thread may call it meanwhile."""
        self._file.sync()

    def finish(self, leaves: Iterable[Child], count: int) -> None:
        """Write the tree over all ``count`` leaf pages, in order, and sync the file."""
        first, depth = self.page, 1
        leaf_pages = count
        while count > 1:
            level = self._write_level(iter(leaves), count)
            leaves, count, depth = level, len(level), depth + 1
        ((_, root),) = leaves
        counts = {"branches": self.page - first, "leaves": leaf_pages, "overflow": self.overflow}
        main = pages.database(depth, **counts, entries=self.entries, root=root)
        self._write_meta(main)

    def _write_level(self, children: Iterator[Child], count: int) -> list[Child]:
        """Branch pages over ``count`` children, filled evenly: LMDB wants two children or more."""
        number = -(-count // _fitting_children())
        level = []
        for i in range(number):
            share = (i + 1) * count // number - i * count // number
            group = list(islice(children, share))
            # The first key of a branch page is never compared, so it is left out.
            nodes = [pages.branch_node(b"", group[0][1])]
            nodes += [pages.branch_node(key, page) for key, page in group[1:]]
            level.append((group[0][0], self.page))
            self._file.append(pages.node_page(self.page, nodes, leaf=False))
            self.page += 1
        return level

    def _write_meta(self, main: bytes) -> None:
        """The newer meta page, number 1, has the tree; number 0 is an empty file's."""
        for write in self.flush():
            write.result()
        self.sync()
        size = self.page * PAGE
        map_size = -(-size // (1 << 20)) << 20
        empty = pages.meta_page(0, map_size, pages.database(), 1)
        full = pages.meta_page(1, map_size, main, self.page - 1, transaction=1)
        self._file.overwrite(empty + full)
        self.sync()

    def _put_far(self, values: Sequence[Value], sizes: np.ndarray) -> None:
        """Append values that all have pages of their own, with the leaf pages among them."""
        counts = pages.overflow_pages(sizes)
        # Before these values the leaf page is full.
        full = np.arange(self._free // _FAR_ROOM, len(sizes), _FITTING)
        leaves_before = np.searchsorted(full, np.arange(len(sizes)), "right")
        places = self.page + counts.cumsum() - counts + leaves_before
        nodes = pages.far_nodes(self.entries, sizes, places)
        leaves = self._end_leaves(nodes, full.tolist(), places)
        pieces = list(values)
        for place, leaf in zip(reversed(full.tolist()), reversed(leaves), strict=True):
            pieces.insert(place, leaf[HEADER:])
        headers = np.insert(pages.overflow_headers(places, counts), full, pages.headers(leaves))
        self._file.append_padded(headers, pieces, np.insert(counts, full, 1))
        self.page = int(places[-1] + counts[-1])
        self.overflow += int(counts.sum())

    def _end_leaves(
        self, nodes: Sequence[bytes], full: Sequence[int], places: np.ndarray
    ) -> list[bytes]:
        """The leaf pages that are full before some of the nodes; the rest goes to the next one."""
        leaves, first = [], 0
        for stop in full:
            self._add_far(nodes[first:stop])
            self.page = int(places[stop]) - 1
            leaves.append(self._finished_leaf())
            first = stop
        self._add_far(nodes[first:])
        return leaves

    def _add_far(self, nodes: Sequence[bytes]) -> None:
        self._nodes += nodes
        self._free -= len(nodes) * _FAR_ROOM
        self.entries += len(nodes)

    def _finished_leaf(self) -> bytes:
        """The leaf page that is being filled, which stands next in the file."""
        self._leaves.append(Leaf(self.entries - len(self._nodes), self.page))
        page = pages.node_page(self.page, self._nodes, leaf=True)
        self._nodes, self._free = [], PAGE - HEADER
        self.page += 1
        return page

    def _add_node(self, node: bytes) -> None:
        if not self._has_room(node):
            self.end_leaf()
        self._nodes.append(node)
        self._free -= len(node) + 2
        self.entries += 1

    def _has_room(self, node: bytes) -> bool:
        return len(node) + 2 <= self._free


def _fitting_children() -> int:
    """How many children fit on a branch page, keys having ``LONGEST_KEY`` bytes at most."""
    node = len(pages.branch_node(bytes(LONGEST_KEY), 0))
    return (PAGE - HEADER) // (node + 2)
