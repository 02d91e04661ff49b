"""The pages of an LMDB file (format 1, LMDB 0.9), as bytes.

A file is a row of pages: two meta pages, then leaf pages with the keys, branch pages above them,
and overflow pages for values that do not fit twice on a leaf. Source: LMDB's ``mdb.c``
(``MDB_page``, ``MDB_node``, ``MDB_meta``, ``me_nodemax``, ``OVPAGES``). All of it little-endian, 64
bits; a reader takes the size of a page from the meta page, so files travel between machines.
"""

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, TypeVar

import numpy as np

PAGE: Final = 4096
HEADER: Final = 16
"""Bytes of a page's header"""
INLINE_MAX: Final = ((PAGE - HEADER) // 2 & ~1) - 2
"""The largest node that lies on a leaf page itself."""

MAGIC: Final = 0xBEEFC0DE
VERSION: Final = 1
NO_PAGE: Final = (1 << 64) - 1

# Page number, padding, flags, then where the free space begins and ends, or the count of pages.
PAGE_HEADER = struct.Struct("<QHHHH")
_OVERFLOW_HEADER = struct.Struct("<QHHI")
BRANCH, LEAF, _OVERFLOW, _META = 1, 2, 4, 8
# Size of the data, flags, size of the key; in a branch, size and flags are the page number.
NODE = struct.Struct("<IHH")
ELSEWHERE: Final = 1
"""The flag of a node whose value has pages of its own: a page number stands in its place."""

PAGE_NUMBER = struct.Struct("<Q")
# Magic, version, address, size of the map, two databases (free pages, main), last page, number.
META = struct.Struct("<IIQQ48s48sQQ")
# Padding (in the first database: the page size), flags, depth, four counts, root page.
DATABASE = struct.Struct("<IHHQQQQQ")
_INTEGER_KEYS = 8

# The same for many at a time; a size is below 2^32, so that its halves are one number.
_OVERFLOW_HEADERS = np.dtype([("page", "<u8"), ("pad", "<u2"), ("flags", "<u2"), ("pages", "<u4")])
_FAR_NODES = np.dtype(
    [("size", "<u4"), ("flags", "<u2"), ("key_size", "<u2"), ("key", ">u8"), ("page", "<u8")]
)
FAR_NODE: Final = _FAR_NODES.itemsize
"""Bytes of a node with an eight byte key whose value has pages of its own"""


Size = TypeVar("Size", int, np.ndarray)


def overflow_pages(size: Size) -> Size:
    """How many pages a value of ``size`` bytes takes where it has pages of its own."""
    return (HEADER + size + PAGE - 1) // PAGE


def is_inline(key: int, value: int) -> bool:
    """Whether a key and value of these sizes lie on the leaf page itself."""
    return NODE.size + key + value <= INLINE_MAX


def overflow_header(page: int, pages: int) -> bytes:
    """What stands before a value that begins at ``page``."""
    return _OVERFLOW_HEADER.pack(page, 0, _OVERFLOW, pages)


def leaf_node(key: bytes, value: bytes) -> bytes:
    """A key with its value beside it."""
    node = NODE.pack(len(value), 0, len(key)) + key + value
    return node + bytes(len(node) % 2)


def far_node(key: bytes, size: int, page: int) -> bytes:
    """A key whose value of ``size`` bytes begins at ``page``."""
    node = NODE.pack(size, ELSEWHERE, len(key)) + key + PAGE_NUMBER.pack(page)
    return node + bytes(len(node) % 2)


def branch_node(key: bytes, page: int) -> bytes:
    """A child page and the first key in it."""
    node = NODE.pack(page & 0xFFFFFFFF, page >> 32, len(key)) + key
    return node + bytes(len(node) % 2)


def overflow_headers(places: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """``overflow_header`` of values that begin at ``places``: ``[n]``, 16 bytes each."""
    headers = np.zeros(len(places), _OVERFLOW_HEADERS)
    headers["page"], headers["flags"], headers["pages"] = places, _OVERFLOW, counts
    return headers


def headers(node_pages: Sequence[bytes]) -> np.ndarray:
    """What stands at the beginning of pages, as ``overflow_headers`` has it."""
    return np.frombuffer(b"".join(page[:HEADER] for page in node_pages), _OVERFLOW_HEADERS)


def far_nodes(first: int, sizes: np.ndarray, places: np.ndarray) -> list[bytes]:
    """``far_node`` for the keys ``first``, ``first + 1``, ... as eight bytes, big-endian."""
    nodes = np.zeros(len(sizes), _FAR_NODES)
    nodes["size"], nodes["flags"], nodes["key_size"] = sizes, ELSEWHERE, 8
    nodes["key"], nodes["page"] = np.arange(first, first + len(sizes)), places
    data = nodes.tobytes()
    return [data[i : i + FAR_NODE] for i in range(0, len(data), FAR_NODE)]


def node_page(page: int, nodes: Sequence[bytes], leaf: bool) -> bytes:
    """A leaf or branch page; the nodes, in order of their keys, fill it from its end."""
    places = [PAGE - end for end in accumulate(map(len, nodes))]
    lower, upper = HEADER + 2 * len(nodes), places[-1]
    header = PAGE_HEADER.pack(page, 0, LEAF if leaf else BRANCH, lower, upper)
    pointers = struct.pack(f"<{len(places)}H", *places)
    return header + pointers + bytes(upper - lower) + b"".join(reversed(nodes))


def meta_page(
    number: int, map_size: int, main: bytes, last_page: int, transaction: int = 0
) -> bytes:
    """Meta page 0 or 1; LMDB believes the one of the later transaction. ``main``: ``database``."""
    free = DATABASE.pack(PAGE, _INTEGER_KEYS, 0, 0, 0, 0, 0, NO_PAGE)
    meta = META.pack(MAGIC, VERSION, 0, map_size, free, main, last_page, transaction)
    header = PAGE_HEADER.pack(number, 0, _META, 0, 0)
    return (header + meta).ljust(PAGE, b"\0")


def database(
    depth: int = 0,
    branches: int = 0,
    leaves: int = 0,
    overflow: int = 0,
    entries: int = 0,
    root: int = NO_PAGE,
) -> bytes:
    """The record of the main database: counts of pages and entries, and the root page."""
    return DATABASE.pack(0, 0, depth, branches, leaves, overflow, entries, root)
