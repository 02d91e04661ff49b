"""Which jobs start only after others are done: the table ``dependencies``.

``jobs.unmet`` counts the unfinished dependencies of a job, so that a claim reads one column,
however many jobs wait.
"""

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from distill.daemon.states import State


class CircleError(Exception):
    """A job would wait for itself; the message is one line."""


@dataclass(frozen=True)
class Ahead:
    """A job that another one waits for."""

    name: str
    state: State
    held: bool


_AHEAD = "name, state, held"


def _ahead(name: str, state: str, held: int) -> Ahead:
    return Ahead(name, State(state), bool(held))


class Dependencies:
    """The table, used inside the queue's transactions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def of(self, job: str) -> list[str]:
        """The names of the jobs that ``job`` depends on."""
        rows = self._connection.execute(
            "SELECT after FROM dependencies WHERE job = ? ORDER BY after", (job,)
        )
        return [after for (after,) in rows]

    def set(self, job: str, after: Collection[str]) -> None:
        """Make ``job`` depend on exactly these jobs, which must be in the queue.

        Raises ``CircleError`` if one of them waits for ``job``.
        """
        for other in after:
            self._refuse_circle(job, other)
        self._connection.execute("DELETE FROM dependencies WHERE job = ?", (job,))
        self._connection.executemany(
            "INSERT INTO dependencies (job, after) VALUES (?, ?)",
            [(job, other) for other in dict.fromkeys(after)],
        )
        self._count([job])

    def check(self, job: str) -> None:
        """Raise ``CircleError`` if a dependency of ``job`` has come to depend on it."""
        for other in self.of(job):
            self._refuse_circle(job, other)

    def done_changed(self, name: str) -> None:
        """Update the counts of a job's dependants after it became done, or not done."""
        self._count(self.dependants(name))

    def dependants(self, name: str) -> list[str]:
        """The jobs that depend on this one."""
        rows = self._connection.execute("SELECT job FROM dependencies WHERE after = ?", (name,))
        return [job for (job,) in rows]

    def ahead(self, jobs: Collection[str]) -> dict[str, list[Ahead]]:
        """The dependencies of each of these jobs that has any."""
        rows = self._connection.execute(
            f"SELECT job, {_AHEAD} FROM dependencies JOIN jobs ON name = after"
            " WHERE job IN (SELECT value FROM json_each(?)) ORDER BY job, position",
            (json.dumps(list(jobs)),),
        )
        found: dict[str, list[Ahead]] = {}
        for job, *columns in rows:
            found.setdefault(job, []).append(_ahead(*columns))
        return found

    def in_vain(self, job: str) -> Ahead | None:
        """The failed or cancelled job that keeps this one from starting, directly or indirectly."""
        row = self._connection.execute(
            "WITH RECURSIVE ahead (name) AS ("
            " SELECT after FROM dependencies WHERE job = ?"
            " UNION SELECT after FROM ahead JOIN jobs USING (name) JOIN dependencies ON job = name"
            "  WHERE state = 'queued')"
            f" SELECT {_AHEAD} FROM ahead JOIN jobs USING (name)"
            " WHERE state IN ('failed', 'cancelled') LIMIT 1",
            (job,),
        ).fetchone()
        return None if row is None else _ahead(*row)

    def _refuse_circle(self, job: str, after: str) -> None:
        """Ended jobs wait for nothing; submitting one again repeats this check."""
        if after == job:
            raise CircleError(f"job {job!r} cannot be after itself")
        found = self._connection.execute(
            "WITH RECURSIVE ahead (name) AS ("
            " VALUES (?)"
            " UNION SELECT after FROM ahead JOIN jobs USING (name) JOIN dependencies ON job = name"
            "  WHERE state IN ('queued', 'running'))"
            " SELECT 1 FROM ahead WHERE name = ?",
            (after, job),
        ).fetchone()
        if found:
            raise CircleError(f"job {job!r} cannot be after {after!r}, which waits for {job!r}")

    def _count(self, jobs: Collection[str]) -> None:
        self._connection.execute(
            "UPDATE jobs SET unmet = (SELECT count(*) FROM dependencies"
            " JOIN jobs AS ahead ON ahead.name = after"
            " WHERE job = jobs.name AND ahead.state != 'done')"
            " WHERE name IN (SELECT value FROM json_each(?))",
            (json.dumps(list(jobs)),),
        )
