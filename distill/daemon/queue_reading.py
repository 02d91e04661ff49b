"""Read access to the queue."""

from collections.abc import Collection
from pathlib import Path
from typing import Self

from distill.daemon.dependencies import Ahead, Dependencies
from distill.daemon.job import Job, Transition, job_of, transition_of
from distill.daemon.ledger import Shares, SharesLedger
from distill.daemon.listing import Listed, Wanted, counts, in_this_order, listed
from distill.daemon.machine import Gpu, Machine
from distill.daemon.ordering import DUE
from distill.daemon.queue_connection import QueueConnection
from distill.daemon.schema import JOB_COLUMNS
from distill.daemon.states import State
from distill.spec_source import LARGEST_SPEC

_LONGEST = {"spec": LARGEST_SPEC, "label": 200, "halved": 2000, "reason": 2000, "hint": 2000}
"""Maximum characters of what is read; others may have written more"""


def _bounded(column: str) -> str:
    """SQL for a column, of which not more than its maximum is read.

    A spec cut off so is still too large to be run.
    """
    if (most := _LONGEST.get(column)) is None:
        return column
    more = f"length({column}) - {most}"
    note = f"printf(' ... (%,d more characters)', {more})"
    # In bytes, because `length` of a text ends at its first NUL.
    return (
        f"iif(length(CAST({column} AS BLOB)) > {4 * most} OR {more} > 0,"
        f" substr({column}, 1, {most}) || iif({more} > 0, {note}, ''), {column}) AS {column}"
    )


_COLUMNS = ", ".join(map(_bounded, JOB_COLUMNS))
_TRANSITION = f"job, at, attempt, event, state, {_bounded('reason')}"


class QueueReader:
    """All jobs of a workspace, read-only."""

    def __init__(self, path: Path, named: Path | None = None) -> None:
        """Open the queue in ``path``; see `QueueConnection`."""
        self._file = QueueConnection(path, named)
        self._mutex, self._connection = self._file.mutex, self._file.sqlite
        self._dependencies = Dependencies(self._connection)
        self._ledger = SharesLedger(self._connection)

    @property
    def path(self) -> Path:
        return self._file.path

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def jobs(self, state: State | None = None, label: str | None = None) -> list[Job]:
        """All jobs, or those in one state or with one label, in order of submission."""
        wanted = {"state": state, "label": label}
        chosen = {column: value for column, value in wanted.items() if value is not None}
        conditions = " AND ".join(f"{column} = ?" for column in chosen)
        where = f"WHERE {conditions}" if chosen else ""
        return self._select(f"{where} ORDER BY position", *chosen.values())

    def page(self, wanted: Wanted) -> tuple[list[Job], Listed]:
        """A page of jobs, newest first; see `listing`."""
        with self._mutex:
            page = listed(self._connection, wanted)
            return self._select(*in_this_order(page.names)), page

    def job(self, name: str) -> Job | None:
        found = self._select("WHERE name = ?", name)
        return found[0] if found else None

    def names(self, state: State | None = None) -> list[str]:
        """The names of all jobs, or of those in one state, in order of submission."""
        chosen = "" if state is None else "WHERE state = ?"
        with self._mutex:
            rows = self._connection.execute(
                f"SELECT name FROM jobs {chosen} ORDER BY position",
                () if state is None else (state,),
            ).fetchall()
        return [name for (name,) in rows]

    def counts(self) -> dict[State, int]:
        """The number of jobs in each state."""
        with self._mutex:
            return counts(self._connection)

    def history(self, name: str) -> list[Transition]:
        """Every transition of a job, oldest first."""
        with self._mutex:
            rows = self._connection.execute(
                f"SELECT {_TRANSITION} FROM transitions WHERE job = ? ORDER BY id",
                (name,),
            ).fetchall()
        return [transition_of(row) for row in rows]

    def last_transition(self) -> int:
        """The number of the newest transition of any job; 0 if there is none."""
        with self._mutex:
            (last,) = self._connection.execute("SELECT max(id) FROM transitions").fetchone()
        return int(last or 0)

    def transitions_after(self, number: int, most: int = 100) -> list[tuple[int, str, Transition]]:
        """The next transitions of all jobs, oldest first: (number, job, transition)."""
        with self._mutex:
            rows = self._connection.execute(
                f"SELECT id, {_TRANSITION} FROM transitions WHERE id > ? ORDER BY id LIMIT ?",
                (number, most),
            ).fetchall()
        return [(row["id"], row["job"], transition_of(row)) for row in rows]

    def after(self, name: str) -> list[str]:
        """The jobs that this one depends on."""
        with self._mutex:
            return self._dependencies.of(name)

    def dependants(self, name: str) -> list[Job]:
        """The jobs that depend on this one."""
        with self._mutex:
            return [self._existing(other) for other in self._dependencies.dependants(name)]

    def ahead(self, names: Collection[str]) -> dict[str, list[Ahead]]:
        """The dependencies of each of these jobs that has any."""
        with self._mutex:
            return self._dependencies.ahead(names)

    def in_vain(self, name: str) -> Ahead | None:
        """The failed or cancelled job that keeps this one from ever starting, if any."""
        with self._mutex:
            return self._dependencies.in_vain(name)

    def provenance(self, name: str) -> str | None:
        """The provenance of the newest submit that had one; see `keep_provenance`."""
        with self._mutex:
            row = self._connection.execute(
                "SELECT record FROM provenance WHERE job = ?", (name,)
            ).fetchone()
        return None if row is None else str(row["record"])

    def drained_since(self) -> float | None:
        """Since when no job starts; ``None`` if jobs start."""
        with self._mutex:
            (since,) = self._connection.execute("SELECT min(since) FROM drain").fetchone()
        return None if since is None else float(since)

    def gpus(self) -> dict[str, list[Gpu]]:
        """The GPUs of every running job that holds some."""
        with self._mutex:
            return self._ledger.holders()

    def shares(self, machine: Machine, now: float, disk: int) -> Shares:
        """The assignment of the machine's resources, with ``disk`` bytes free."""
        with self._mutex:
            return self._ledger.shares(DUE, (now, now, disk), machine)

    def blocked(self) -> list[Job]:
        """The queued jobs that wait for a step of another job."""
        # The plus keeps SQLite from scanning all queued jobs instead.
        return self._select("WHERE blocked_by IS NOT NULL AND +state = ?", State.QUEUED)

    def _existing(self, name: str) -> Job:
        job = self.job(name)
        assert job is not None, name
        return job

    def _select(self, where: str, *values: object) -> list[Job]:
        with self._mutex:
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM jobs {where}", values
            ).fetchall()
        return [job_of(row) for row in rows]
