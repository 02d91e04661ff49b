"""Where a conversion puts every image, in which batches, and how much disk that takes."""

import mmap
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from curation.scan import Scan

BATCH_BYTES = 16 << 20
"""About what one transaction writes; it is held in memory."""

_PAGE_HEADER = 16
_NODE_HEADER = 8
_KEY = 8
_POINTER = 2
_PAGE_NUMBER = 8


@dataclass(frozen=True)
class StorePlan:
    """The layout of a store; all of it follows from the scan, so that resuming finds the same."""

    order: np.ndarray
    """int64 ``[N]``: the scan's row of each image of the store"""
    labels: np.ndarray
    """``[N]``, ascending from 0 without gaps"""
    source_labels: np.ndarray
    """``[identities]``, ascending"""
    batches: list[int]
    """Where batches begin, from 0, and the end"""
    file_size: int
    """Bytes of the finished data.mdb, to within some pages"""

    @property
    def images(self) -> int:
        return len(self.order)

    @property
    def map_size(self) -> int:
        """LMDB's limit for the file: its size and room for the pages that each batch rewrites."""
        return -(-(self.file_size + self.file_size // 50 + (16 << 20)) // (1 << 20)) << 20

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 ``[identities + 1]``: identity k has images offsets[k] ... offsets[k+1]-1."""
        return np.searchsorted(self.labels, np.arange(len(self.source_labels) + 1))


def plan_store(scan: Scan) -> StorePlan:
    """Identities in ascending order of label; images of one in the order of the source."""
    order = np.argsort(scan.labels, kind="stable")
    source_labels, labels = np.unique(scan.labels[order], return_inverse=True)
    image_bytes = stored_bytes(scan.sizes[order])
    index_bytes = 20 * len(order) + 16 * (len(source_labels) + 1)
    file_size = int(image_bytes.sum()) + index_bytes + 16 * mmap.PAGESIZE
    return StorePlan(order, labels, source_labels, _batches(image_bytes), file_size)


def stored_bytes(sizes: np.ndarray, page: int = mmap.PAGESIZE) -> np.ndarray:
    """What each value of ``sizes`` bytes takes in an LMDB file: float64 ``[N]``.

    A value whose node does not fit twice on a page lies on pages of its own; a leaf page then has
    only their number. Source: LMDB's mdb.c, ``me_nodemax``, ``mdb_node_add`` and ``OVPAGES``.
    """
    usable = page - _PAGE_HEADER
    largest_node = (usable // 2 & ~1) - _POINTER
    inline = _NODE_HEADER + _KEY + sizes <= largest_node
    own_pages = np.where(inline, 0, -(-(_PAGE_HEADER + sizes) // page))
    node = _NODE_HEADER + _KEY + np.where(inline, sizes + sizes % 2, _PAGE_NUMBER) + _POINTER
    leaf = page / (usable // node)
    # A branch page holds one node of key and page number for each leaf page.
    branch = leaf / (usable // (_NODE_HEADER + _KEY + _POINTER))
    return own_pages * page + leaf + branch


def _batches(image_bytes: np.ndarray) -> list[int]:
    """Cut where the sum passes a multiple of ``BATCH_BYTES``."""
    number = np.cumsum(image_bytes) // BATCH_BYTES
    cuts = np.flatnonzero(np.diff(number)) + 1
    return [0, *cuts.tolist(), len(image_bytes)]
