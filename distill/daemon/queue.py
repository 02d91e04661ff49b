"""The queue on disk: one SQLite file, and every transition is one transaction.

WAL with ``synchronous=FULL``: what a method returned survives a power cut. ``BEGIN IMMEDIATE``
takes the write lock before anything is read, so two processes never decide on the same state.
"""

import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curation.errors import UserError
from distill.daemon import queue_file
from distill.daemon.attempts import fresh_id
from distill.daemon.demand import DEMAND_COLUMNS, Demand, demand_of
from distill.daemon.dependencies import Ahead, Dependencies
from distill.daemon.ledger import Shares, SharesLedger
from distill.daemon.listing import Listed, Wanted, in_this_order, listed
from distill.daemon.machine import Gpu, Machine
from distill.daemon.ordering import Ordering
from distill.daemon.outcome import Outcome, bounded, paused
from distill.daemon.placing import AS_BEFORE, Placing
from distill.daemon.progress import NOTHING_MADE, Made
from distill.daemon.room import has_room
from distill.daemon.schema import JOB_COLUMNS, has_tables, is_current, migrate
from distill.daemon.states import Event, State, TransitionRefusedError, next_state

Judge = Callable[[bool], Outcome]
"""Given whether the user cancelled the job, what its attempt's end means."""

ROOM = 100
"""Pages that the queue's files have to spare, so that jobs can be ended on a full disk."""
_PAGE_BYTES = 4096
_ROOM_SECONDS = 60.0
_COLUMNS = ", ".join(f"jobs.{column}" for column in JOB_COLUMNS)
_STARTABLE = "state = 'queued' AND held = 0 AND unmet = 0 AND blocked_by IS NULL"
"""Word for word the condition of the index ``startable``."""
_OF_JOBS = (
    ("dependencies", "job"),
    ("dependencies", "after"),
    ("transitions", "job"),
    ("jobs", "name"),
)
"""Tables and columns with names of jobs, the last one that with the jobs themselves"""
_WAITS = "(not_before > ? AND not_before <= ? + back_off)"
"""Given the time twice. More than the back-off is left where the clock was set back: it is over."""
_DUE = f"{_STARTABLE} AND NOT {_WAITS} AND disk <= ?"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job as the queue knows it; times in epoch seconds."""

    name: str
    spec: str
    state: State
    position: int
    """The order of submission; within one priority, lower starts first."""
    attempt: int
    """Counts every start of this name in this queue, and never goes back."""
    attempt_id: str
    """Tells the attempt apart from those of every other queue; see ``attempts.Attempt``."""
    launched: bool
    """Its runner is known to have begun."""
    interruptions: int
    """Attempts of the newest submit that ended through no fault of the job."""
    not_before: float
    back_off: float
    """How many seconds ``not_before`` was in the future when it was set."""
    blocked_by: str | None
    """Of a queued job, the step that another job does at present (its folder in ``steps/``)."""
    priority: int
    """Higher starts first."""
    held: bool
    """Queued, and not to be started until it is resumed; or running, and to be so when it stops."""
    label: str
    """What several jobs may share; empty where none was given."""
    unmet: int
    """How many of the jobs that it is after are not done; with one it is not started."""
    made: Made
    """How far it was at its last interruption."""
    halved: str | None
    """Why each batch is taken in twice as many parts, where it is."""
    demand: Demand
    """What its spec says that it needs of the machine."""
    submitted_at: float
    started_at: float | None
    finished_at: float | None
    cancel_requested_at: float | None
    forced: bool
    """Its cancel leaves it no time for a checkpoint."""
    pause_requested_at: float | None
    """Since when its attempt is to stop and be queued again"""
    exit_status: int | None
    reason: str | None
    hint: str | None


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One line of a job's history."""

    at: float
    attempt: int
    event: Event
    state: State
    reason: str | None


class Queue:
    """All jobs of a workspace. Safe to use from several threads and several processes."""

    def __init__(self, path: Path, named: Path | None = None) -> None:
        """Open the queue in ``path``; an absent one is made, an older one brought up to date.

        ``UserError`` where the file is damaged or belongs to a newer version. Errors call it
        ``named``, where it is a copy.
        """
        self.path, self._named = path, named or path
        self._mutex = threading.RLock()
        self._least_free = sys.maxsize  # the first time the log needs its room as well
        self._room_wanted_at = 0.0
        try:
            if not path.exists():
                queue_file.make(path)
            self._file = queue_file.identity(path)
            self._connection = queue_file.connect(path)
            self._dependencies = Dependencies(self._connection)
            self._ledger = SharesLedger(self._connection)
            self._ordering = Ordering(self._connection)
            self._prepare()
        except sqlite3.Error as error:
            self.close()
            raise UserError(queue_file.trouble(self._named, error)) from None
        except UserError:
            self.close()
            raise

    def _prepare(self) -> None:
        connection = self._connection
        connection.row_factory = sqlite3.Row
        if not has_tables(connection):
            raise sqlite3.DatabaseError("it has no tables")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # Pages: the write-ahead log begins anew before it needs more than `keep_room` gave it.
        connection.execute(f"PRAGMA wal_autocheckpoint = {ROOM // 2}")
        if not is_current(connection):
            with self.exclusive():
                migrate(connection, self._named)
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)

    def close(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.close()

    def __enter__(self) -> "Queue":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One transaction; nobody else, in any process, changes the queue until it ends.

        Inside another one it is a part of that.
        """
        with self._mutex:
            if self._connection.in_transaction:
                yield
                return
            if queue_file.identity(self.path) != self._file:
                raise sqlite3.OperationalError(
                    "its file was moved or replaced; `distill stop` and start the daemon again"
                )
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk ends it by itself
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def undone_alone(self) -> Iterator[None]:
        """A part of a transaction, of which nothing remains where it fails; the rest does."""
        with self.exclusive():
            self._connection.execute("SAVEPOINT part")
            try:
                yield
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK TO part")
                raise
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("RELEASE part")

    def keep_room(self) -> None:
        """Let the queue's file and its write-ahead log have room to spare, where the disk has it.

        Space that is merely left free on the disk would go to the job that fills it. The log keeps
        its size as long as somebody, such as the daemon, has the queue open.
        """
        with self._mutex:
            (free,) = self._connection.execute("PRAGMA freelist_count").fetchone()
            if time.monotonic() < self._room_wanted_at or free >= self._least_free:
                return
            self._room_wanted_at = time.monotonic() + _ROOM_SECONDS
            if has_room(self.path, 2 * ROOM * _PAGE_BYTES):
                with suppress(sqlite3.OperationalError):  # a quota, say
                    self._take_room()

    def _take_room(self) -> None:
        """Write as many pages as are to be free, and free them."""
        filler = f"zeroblob({ROOM * _PAGE_BYTES})"
        self._connection.execute("DROP TABLE IF EXISTS room")
        self._connection.execute(f"CREATE TABLE room AS SELECT {filler} AS pages")
        self._connection.execute("DROP TABLE room")
        self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        self._least_free = ROOM // 2

    def jobs(self, state: State | None = None, label: str | None = None) -> list[Job]:
        """All jobs, or those in one state or with one label, in the order of submission."""
        wanted = {"state": state, "label": label}
        chosen = {column: value for column, value in wanted.items() if value is not None}
        conditions = " AND ".join(f"{column} = ?" for column in chosen)
        where = f"WHERE {conditions}" if chosen else ""
        return self._select(f"{where} ORDER BY position", *chosen.values())

    def page(self, wanted: Wanted) -> tuple[list[Job], Listed]:
        """A page of the jobs, the newest first; see `listing`."""
        with self._mutex:
            page = listed(self._connection, wanted)
            return self._select(*in_this_order(page.names)), page

    def job(self, name: str) -> Job | None:
        found = self._select("WHERE name = ?", name)
        return found[0] if found else None

    def names(self, state: State | None = None) -> list[str]:
        """The names of all jobs, or of those in one state, in the order of submission."""
        chosen = "" if state is None else "WHERE state = ?"
        with self._mutex:
            rows = self._connection.execute(
                f"SELECT name FROM jobs {chosen} ORDER BY position",
                () if state is None else (state,),
            ).fetchall()
        return [name for (name,) in rows]

    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""
        with self._mutex:
            rows = self._connection.execute(
                "SELECT state, count(*) FROM jobs GROUP BY state"
            ).fetchall()
        return {state: dict(map(tuple, rows)).get(state, 0) for state in State}

    def history(self, name: str) -> list[Transition]:
        """Every transition of a job, oldest first."""
        with self._mutex:
            rows = self._connection.execute(
                "SELECT at, attempt, event, state, reason FROM transitions"
                " WHERE job = ? ORDER BY id",
                (name,),
            ).fetchall()
        return [_transition(row) for row in rows]

    def last_transition(self) -> int:
        """The number of the newest transition of any job; 0 where there is none."""
        with self._mutex:
            (last,) = self._connection.execute("SELECT max(id) FROM transitions").fetchone()
        return int(last or 0)

    def transitions_after(self, number: int, most: int = 100) -> list[tuple[int, str, Transition]]:
        """The next transitions of all jobs, oldest first: their numbers and whose they are."""
        with self._mutex:
            rows = self._connection.execute(
                "SELECT id, job, at, attempt, event, state, reason FROM transitions"
                " WHERE id > ? ORDER BY id LIMIT ?",
                (number, most),
            ).fetchall()
        return [(row["id"], row["job"], _transition(row)) for row in rows]

    def submit(self, name: str, spec: str, now: float, placing: Placing = AS_BEFORE) -> Job:
        """Queue a new job, or an ended (or waiting) one again, perhaps with another spec.

        ``TransitionRefusedError`` where it is running, ``CircleError`` where it would wait for
        itself. Returned means committed.
        """
        with self.exclusive():
            if self.job(name) is None:
                self._insert(name, spec, now, placing)
            else:
                self._resubmit(name, spec, now, placing)
            if placing.after is None:
                self._dependencies.check(name)
            else:
                self._dependencies.set(name, placing.after)
            return self._existing(name)

    def after(self, name: str) -> list[str]:
        """The jobs that this one starts after."""
        with self._mutex:
            return self._dependencies.of(name)

    def dependants(self, name: str) -> list[Job]:
        """The jobs that start after this one."""
        with self._mutex:
            return [self._existing(other) for other in self._dependencies.dependants(name)]

    def ahead(self, names: Collection[str]) -> dict[str, list[Ahead]]:
        """The jobs that each of these is after, for those that are after any."""
        with self._mutex:
            return self._dependencies.ahead(names)

    def in_vain(self, name: str) -> Ahead | None:
        """The failed or cancelled job that keeps this one from ever starting, if one does."""
        with self._mutex:
            return self._dependencies.in_vain(name)

    def keep_provenance(self, name: str, record: str) -> None:
        """Remember where a job comes from (``distill.provenance.Provenance`` as JSON)."""
        with self.exclusive():
            self._connection.execute(
                "INSERT OR REPLACE INTO provenance (job, record) VALUES (?, ?)",
                (name, _storable(record)),
            )

    def provenance(self, name: str) -> str | None:
        """What `keep_provenance` was given of the newest submit that gave any."""
        with self._mutex:
            row = self._connection.execute(
                "SELECT record FROM provenance WHERE job = ?", (name,)
            ).fetchone()
        return None if row is None else str(row["record"])

    def place(self, name: str, placing: Placing, now: float) -> Job:
        """Give a queued job another priority or label, have it start after others, or hold it.

        It keeps its place in the queue. ``CircleError`` where it would wait for itself.
        """
        with self.exclusive():
            if said := _said(placing):
                self._update(name, **said)
            if placing.after is not None:
                self._dependencies.set(name, placing.after)
            return self.pause(name, now) if placing.hold else self._existing(name)

    def pause(self, name: str, now: float) -> Job:
        """Keep a queued job from starting; of a running one record the wish that it stops.

        ``TransitionRefusedError`` where it has ended.
        """
        with self.exclusive():
            job = self._existing(name)
            next_state(job.state, Event.PAUSE)
            if job.state is State.RUNNING:
                self._update(name, held=True, pause_requested_at=job.pause_requested_at or now)
            elif not job.held:
                self._move(job, Event.PAUSE, now, held=True)
            return self._existing(name)

    def resume(self, name: str, now: float) -> Job:
        """Let a paused job start; one that is still to stop starts again right after that.

        ``TransitionRefusedError`` where it has ended.
        """
        with self.exclusive():
            job = self._existing(name)
            if job.state is State.RUNNING:
                self._update(name, held=False)
                return self._existing(name)
            next_state(job.state, Event.RESUME)
            if job.held:
                self._move(job, Event.RESUME, now, held=False)
            return self._existing(name)

    def move_first(self, name: str) -> None:
        """Start a queued job before all others of its priority."""
        with self.exclusive():
            self._ordering.first(name)

    def move_last(self, name: str) -> None:
        """Start a queued job after all others of its priority that are queued now."""
        with self.exclusive():
            self._ordering.last(name)

    def move_before(self, name: str, other: str) -> None:
        """Start a queued job right before another one that is queued with the same priority."""
        with self.exclusive():
            self._ordering.before(name, other)

    def drain(self, now: float) -> None:
        """Let no job start, until `undrain`; those that run are not touched."""
        with self.exclusive():
            if self.drained_since() is None:
                self._connection.execute("INSERT INTO drain (since) VALUES (?)", (now,))

    def undrain(self) -> None:
        """Let jobs start again."""
        with self.exclusive():
            self._connection.execute("DELETE FROM drain")

    def drained_since(self) -> float | None:
        """Since when no job starts; ``None`` where they do."""
        with self._mutex:
            (since,) = self._connection.execute("SELECT min(since) FROM drain").fetchone()
        return None if since is None else float(since)

    def claim(
        self, now: float, machine: Machine | None = None, disk: int = sys.maxsize
    ) -> Job | None:
        """Start the first queued job that is due: it is running, with a new attempt number.

        Where jobs share a ``machine``, the first that fits into what is left of it. ``disk`` is how
        many bytes are free there, of which some jobs need much.
        """
        with self.exclusive():
            if self.drained_since() is not None:
                return None
            if machine is None:
                due = self._select(
                    f"INDEXED BY startable WHERE {_DUE} ORDER BY priority DESC, position LIMIT 1",
                    *(now, now, disk),
                )
                name = due[0].name if due else None
            else:
                name = self._ledger.turn(_DUE, (now, now, disk), machine).name
            if name is None:
                return None
            job = self._existing(name)
            fresh = {"attempt": job.attempt + 1, "attempt_id": fresh_id(), "launched": False}
            if machine is not None:
                self._ledger.take(name, job.demand, machine)
            self._move(job, Event.START, now, started_at=now, **fresh)
            return self._existing(name)

    def gpus(self) -> dict[str, list[Gpu]]:
        """The GPUs of every running job that holds some."""
        with self._mutex:
            return self._ledger.holders()

    def shares(self, machine: Machine, now: float, disk: int) -> Shares:
        """How the machine is shared out, with so many bytes free on the disk."""
        with self._mutex:
            return self._ledger.shares(_DUE, (now, now, disk), machine)

    def note_launched(self, name: str, attempt: int) -> None:
        """Remember that the runner of this attempt began, whatever becomes of the run folder."""
        with self.exclusive():
            self._connection.execute(
                "UPDATE jobs SET launched = 1 WHERE name = ? AND attempt = ?", (name, attempt)
            )

    def blocked(self) -> list[Job]:
        """The queued jobs that wait for a step of another job."""
        # The plus keeps SQLite from going through all that are queued instead.
        return self._select("WHERE blocked_by IS NOT NULL AND +state = ?", State.QUEUED)

    def unblock(self, name: str) -> None:
        """The step that the job waited for is done, or nobody does it any more."""
        with self.exclusive():
            self._update(name, blocked_by=None, reason=None)

    def settle(
        self, name: str, attempt: int, judge: Judge, now: float, made: Made = NOTHING_MADE
    ) -> Job:
        """Record how an attempt ended: ``judge`` is asked inside the transaction.

        Interruptions before progress, which ``made`` says, count no more.

        ``TransitionRefusedError`` where the job is not running, or runs another attempt: whoever
        comes late with an old attempt changes nothing.
        """
        with self.exclusive():
            job = self._existing(name)
            if job.attempt != attempt:
                raise TransitionRefusedError(f"attempt {attempt} of {name} is of the past")
            # Here and not before: a cancel that came a moment ago must not be lost to a retry.
            outcome = judge(job.cancel_requested_at is not None)
            if job.pause_requested_at is not None:
                outcome = paused(outcome)
            before = 0 if made.beyond(job.made) else job.interruptions
            outcome = bounded(outcome, before, job.halved is not None)
            changes = _changes(job, outcome, now)
            if outcome.event is Event.INTERRUPT:
                changes |= {"interruptions": before + 1, **job.made.up_to(made)}
                changes |= {"position": self._ordering.behind_all()} if outcome.last else {}
            self._move(job, outcome.event, now, **changes)
            return self._existing(name)

    def request_cancel(self, name: str, now: float, force: bool = False) -> Job:
        """Cancel a queued job at once; of a running one record the wish; leave an ended one.

        With ``force`` a running one is killed, without time for a checkpoint.
        """
        with self.exclusive():
            job = self._existing(name)
            if job.state is State.QUEUED:
                told = {"reason": "cancelled by the user", "hint": None, "blocked_by": None}
                self._move(job, Event.CANCEL, now, finished_at=now, held=False, **told)
            elif job.state is State.RUNNING:
                asked = job.cancel_requested_at or now
                self._update(job.name, cancel_requested_at=asked, forced=job.forced or force)
            return self._existing(name)

    def forget(self, names: Collection[str]) -> None:
        """Take jobs that do not run out of the queue, with their histories."""
        with self.exclusive():
            every = [(name,) for name in names]
            for table, column in _OF_JOBS:
                self._connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", every)

    def _insert(self, name: str, spec: str, now: float, placing: Placing) -> None:
        self._connection.execute(
            "INSERT INTO jobs (name, spec, state, position, submitted_at) VALUES (?, ?, ?, ?, ?)",
            (name, spec, State.QUEUED, self._ordering.behind_all(), now),
        )
        self._update(name, held=placing.hold, **_said(placing), **asdict(demand_of(spec)))
        self._log(self._existing(name), Event.SUBMIT, now)

    def _resubmit(self, name: str, spec: str, now: float, placing: Placing) -> None:
        fresh: dict[str, Any] = dict.fromkeys(
            ("started_at", "finished_at", "cancel_requested_at", "exit_status", "reason", "hint")
        )
        fresh |= {"spec": spec, "submitted_at": now, "position": self._ordering.behind_all()}
        fresh |= {"forced": False, "pause_requested_at": None}
        fresh |= {"interruptions": 0, "not_before": 0.0, "back_off": 0.0, "blocked_by": None}
        fresh |= {"halved": None, **asdict(NOTHING_MADE)}
        fresh |= {"held": placing.hold, **_said(placing), **asdict(demand_of(spec))}
        self._move(self._existing(name), Event.SUBMIT, now, **fresh)

    def _move(self, job: Job, event: Event, now: float, **changes: Any) -> None:
        """The one place where a state changes: guarded by the table, noted in the history."""
        state = next_state(job.state, event)
        self._update(job.name, state=state, **changes)
        if State.DONE in (state, job.state):
            self._dependencies.done_changed(job.name)
        if job.state is State.RUNNING:
            self._ledger.give_back(job.name)
        self._log(self._existing(job.name), event, now)

    def _update(self, name: str, **changes: Any) -> None:
        columns = ", ".join(f"{column} = ?" for column in changes)
        self._connection.execute(
            f"UPDATE jobs SET {columns} WHERE name = ?",
            (*map(_storable, changes.values()), name),
        )

    def _log(self, job: Job, event: Event, now: float) -> None:
        self._connection.execute(
            "INSERT INTO transitions (job, at, attempt, event, state, reason)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (job.name, now, job.attempt, event, job.state, job.reason),
        )

    def _existing(self, name: str) -> Job:
        job = self.job(name)
        assert job is not None, name
        return job

    def _select(self, where: str, *values: object) -> list[Job]:
        with self._mutex:
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM jobs {where}", values
            ).fetchall()
        return [_job(row) for row in rows]


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    demand = Demand(**{column: values.pop(column) for column in DEMAND_COLUMNS})
    made = Made(iterations=values.pop("iterations"), images=values.pop("images"))
    flags = {name: bool(values[name]) for name in ("launched", "held", "forced")}
    return Job(**{**values, "state": State(row["state"]), **flags, "demand": demand, "made": made})


def _transition(row: sqlite3.Row) -> Transition:
    return Transition(
        at=row["at"],
        attempt=row["attempt"],
        event=Event(row["event"]),
        state=State(row["state"]),
        reason=row["reason"],
    )


def _said(placing: Placing) -> dict[str, Any]:
    """The columns that a placing sets; what it leaves open stays as it is."""
    said = {"priority": placing.priority, "label": placing.label}
    return {column: value for column, value in said.items() if value is not None}


def _changes(job: Job, outcome: Outcome, now: float) -> dict[str, Any]:
    """The columns an outcome sets beside the state."""
    told: dict[str, Any] = {"reason": outcome.reason, "hint": outcome.hint}
    told |= {"exit_status": outcome.exit_status, "pause_requested_at": None}
    if outcome.event is Event.PAUSE:
        return told | {"started_at": None}
    if outcome.event is Event.WAIT:
        return told | {"blocked_by": outcome.blocked_by, "started_at": None}
    if outcome.event is Event.INTERRUPT:
        told |= {"not_before": now + outcome.delay, "back_off": outcome.delay, "started_at": None}
        told |= {"halved": outcome.reason} if outcome.out_of_memory else {}
        return told | {"disk": max(job.demand.disk, outcome.disk)}
    return told | {"finished_at": now, "held": False}


def _storable(value: object) -> object:
    """Text that SQLite can hold: half a surrogate pair is written as its number."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    return value
