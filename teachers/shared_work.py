"""The rows that are to be computed, handed out to the processes that share a cache."""

from collections import deque

import numpy as np

from teachers.row_table import Claims, RowTable


class SharedWork:
    """Missing rows in batches of about ``claims.claim``, claimed as they are taken.

    Sparse rows of many claims make one batch, so a view costs what its own rows cost.
    """

    def __init__(self, rows: np.ndarray, table: RowTable, claims: Claims) -> None:
        cuts = np.flatnonzero(np.diff(rows // claims.claim)) + 1
        self._fresh = deque(np.split(rows, cuts))
        self._held: deque[np.ndarray] = deque()  # by other processes, when last looked at
        self._table, self._claims = table, claims
        self.by_others = 0
        """Rows that turned out to be computed meanwhile"""

    def __bool__(self) -> bool:
        return bool(self._fresh or self._held)

    def take(self) -> np.ndarray:
        """The next rows, claimed; none where other processes are at all that is left."""
        while self._held and not len(self._table.missing(self._held[0])):
            self.by_others += len(self._held.popleft())
        batch: list[np.ndarray] = []
        room = self._claims.claim
        for queue in (self._fresh, self._held):
            for _ in range(len(queue)):
                if batch and len(queue[0]) > room:
                    return np.concatenate(batch)
                rows = queue.popleft()
                if not self._claims.take(int(rows[0])):
                    self._held.append(rows)
                elif len(missing := self._missing(rows)):
                    batch.append(missing)
                    room -= len(missing)
        return np.concatenate(batch) if batch else np.empty(0, np.int64)

    def _missing(self, rows: np.ndarray) -> np.ndarray:
        """Those of claimed rows that are to be computed; the claim is given back if none is."""
        missing = self._table.missing(rows)
        self.by_others += len(rows) - len(missing)
        if not len(missing):
            self._claims.give_back(rows)
        return missing
