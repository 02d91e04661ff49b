"""How much disk a store takes."""

import mmap

import numpy as np

from curation.environment import HEADER

_PAGE = min(mmap.PAGESIZE, 1 << 15)
"""Bytes of a page where liblmdb makes a file on this machine"""
_INLINE_MAX = ((_PAGE - HEADER) // 2 & ~1) - 2
"""The largest node that lies on a leaf page itself"""
_NODE_HEADER = 8
_KEY = 8
_POINTER = 2
_PAGE_NUMBER = 8


def stored_bytes(sizes: np.ndarray) -> np.ndarray:
    """What each image of ``sizes`` bytes takes in the file: float64 ``[N]``.

    A value whose node does not fit twice on a page lies on pages of its own; a leaf page then has
    only their number. Source: LMDB's mdb.c, ``me_nodemax``, ``mdb_node_add`` and ``OVPAGES``.
    """
    usable = _PAGE - HEADER
    inline = _NODE_HEADER + _KEY + sizes <= _INLINE_MAX
    own_pages = np.where(inline, 0, -(-(HEADER + sizes) // _PAGE))
    node = _NODE_HEADER + _KEY + np.where(inline, sizes + sizes % 2, _PAGE_NUMBER) + _POINTER
    leaf = _PAGE / (usable // node)
    # A branch page holds one node of key and page number for each leaf page.
    branch = leaf / (usable // (_NODE_HEADER + _KEY + _POINTER))
    return own_pages * _PAGE + leaf + branch
