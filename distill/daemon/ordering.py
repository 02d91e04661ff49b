"""The order of the queue within one priority: ``jobs.position``."""

import sqlite3
from collections.abc import Sequence

_STARTABLE = "state = 'queued' AND held = 0 AND unmet = 0 AND blocked_by IS NULL"
"""Must equal the condition of the index ``startable`` word for word"""
_WAITS = "(not_before > ? AND not_before <= ? + back_off)"
"""Takes the time twice. If more than the back-off is left, the clock was set back: do not wait."""
DUE = f"{_STARTABLE} AND NOT {_WAITS} AND disk <= ?"
"""Which jobs may start; takes the time twice, and the free bytes of the disk"""


class Ordering:
    """The positions of jobs, changed inside the queue's transactions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def behind_all(self) -> int:
        """A position after all others."""
        (last,) = self._connection.execute("SELECT max(position) FROM jobs").fetchone()
        return (last or 0) + 1

    def first(self, name: str) -> None:
        """Move a job before all others."""
        (first,) = self._connection.execute("SELECT min(position) FROM jobs").fetchone()
        self._put(name, first - 1)

    def last(self, name: str) -> None:
        """Move a job after all others."""
        self._put(name, self.behind_all())

    def before(self, name: str, other: str) -> None:
        """Move a queued job directly before another one of its priority, shifting those between."""
        rows = self._connection.execute(
            "SELECT name, position FROM jobs WHERE state = 'queued'"
            " AND priority = (SELECT priority FROM jobs WHERE name = ?) ORDER BY position",
            (name,),
        ).fetchall()
        places = dict(map(tuple, rows))
        order = [each for each in places if each != name]
        order.insert(order.index(other), name)
        self._give(order, list(places.values()))

    def _give(self, order: Sequence[str], positions: Sequence[int]) -> None:
        """Assign positions by way of new ones at the end, because positions are always unique."""
        behind = self.behind_all()
        moved = [
            (position, name)
            for name, position in zip(order, positions, strict=True)
            if self._position(name) != position
        ]
        for shift in (behind - min(positions), 0):
            self._connection.executemany(
                "UPDATE jobs SET position = ? WHERE name = ?",
                [(position + shift, name) for position, name in moved],
            )

    def _position(self, name: str) -> int:
        row = self._connection.execute("SELECT position FROM jobs WHERE name = ?", (name,))
        return int(row.fetchone()[0])

    def _put(self, name: str, position: int) -> None:
        self._connection.execute("UPDATE jobs SET position = ? WHERE name = ?", (position, name))
