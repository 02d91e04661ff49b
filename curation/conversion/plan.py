"""How much disk a store takes."""

import numpy as np

from curation.conversion.lmdb_pages import HEADER, INLINE_MAX, PAGE

_NODE_HEADER = 8
_KEY = 8
_POINTER = 2
_PAGE_NUMBER = 8


def stored_bytes(sizes: np.ndarray) -> np.ndarray:
    """What each image of ``sizes`` bytes takes in the file: float64 ``[N]``.

    A value whose node does not fit twice on a page lies on pages of its own; a leaf page then has
    only their number. Source: LMDB's mdb.c, ``me_nodemax``, ``mdb_node_add`` and ``OVPAGES``.
    """
    usable = PAGE - HEADER
    inline = _NODE_HEADER + _KEY + sizes <= INLINE_MAX
    own_pages = np.where(inline, 0, -(-(HEADER + sizes) // PAGE))
    node = _NODE_HEADER + _KEY + np.where(inline, sizes + sizes % 2, _PAGE_NUMBER) + _POINTER
    leaf = PAGE / (usable // node)
    # A branch page holds one node of key and page number for each leaf page.
    branch = leaf / (usable // (_NODE_HEADER + _KEY + _POINTER))
    return own_pages * PAGE + leaf + branch
