"""Distribution of missing rows among the processes that share a cache."""

from collections import deque

import numpy as np

from teachers.row_table import Claims, RowTable


class SharedWork:
    """Missing rows in batches of about ``claims.claim``, claimed when taken.

    Sparse rows from many claims form one batch, so the cost depends only on the number of rows.
    """

    def __init__(self, missing: np.ndarray, table: RowTable, claims: Claims) -> None:
        """``missing`` bool ``[N]``: which rows of the store must be computed."""
        self._missing, self._table, self._claims = missing, table, claims
        firsts = np.arange(0, len(missing), claims.claim)
        holding = np.logical_or.reduceat(missing, firsts)
        # The first row of each claim. Held claims belong to another process.
        self._fresh: deque[int] = deque(firsts[holding].tolist())
        self._held: deque[int] = deque()
        self.by_others = 0
        """Rows that turned out to be computed meanwhile"""

    def __bool__(self) -> bool:
        return bool(self._fresh or self._held)

    def take(self) -> np.ndarray:
        """The next rows, claimed; empty if other processes work on everything that is left."""
        while self._held and not len(self._table.missing(self._rows(self._held[0]))):
            self.by_others += len(self._rows(self._held.popleft()))
        batch: list[np.ndarray] = []
        room = self._claims.claim
        for queue in (self._fresh, self._held):
            for _ in range(len(queue)):
                rows = self._rows(queue[0])
                if batch and len(rows) > room:
                    return np.concatenate(batch)
                first = queue.popleft()
                if not self._claims.take(first):
                    self._held.append(first)
                elif len(left := self._left(rows)):
                    batch.append(left)
                    room -= len(left)
        return np.concatenate(batch) if batch else np.empty(0, np.int64)

    def _rows(self, first: int) -> np.ndarray:
        """The rows of a claim that were missing at the start."""
        return first + np.flatnonzero(self._missing[first : first + self._claims.claim])

    def _left(self, rows: np.ndarray) -> np.ndarray:
        """The claimed rows that are still missing; releases the claim if there are none."""
        left = self._table.missing(rows)
        self.by_others += len(rows) - len(left)
        if not len(left):
            self._claims.give_back(rows)
        return left
