"""Finds names or numbers among millions of others, in 16 bytes each."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable

import numpy as np


class NameIndex:
    """The positions of names, such as file names, record keys, or whole numbers below 2**61.

    Only the 64-bit hash of each name is held. A name that is not there is found nevertheless with a
    probability of 5e-20 for each one that is; numbers are their own hashes.
    """

    def __init__(self, names: Iterable[Hashable] | np.ndarray) -> None:
        if isinstance(names, np.ndarray):
            hashes = names.astype(np.int64)
        else:
            hashes = np.fromiter(map(hash, names), np.int64)
        self.positions = np.argsort(hashes, kind="stable")
        """int64 ``[N]``: the position of each name in the order of the index"""
        # Searched one by one, an array is several times faster than one of NumPy.
        self._hashes = array("q", hashes[self.positions].tobytes())

    def span(self, name: Hashable) -> slice:
        """The entries of ``positions`` that have this name; empty if there are none."""
        wanted = hash(name)
        begin = bisect_left(self._hashes, wanted)
        if begin == len(self._hashes) or self._hashes[begin] != wanted:
            return slice(begin, begin)
        return slice(begin, bisect_right(self._hashes, wanted, begin))

    def position(self, name: Hashable) -> int:
        """The position of the first such name; -1 if there is none."""
        span = self.span(name)
        return int(self.positions[span.start]) if span.stop > span.start else -1
