"""The queue on disk: one SQLite file; every transition is one transaction.

Once a method returns, its effect survives a power cut. Two processes never decide on the same
state.
"""

import sys
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.daemon.attempts import fresh_id
from distill.daemon.demand import demand_of
from distill.daemon.job import Job
from distill.daemon.machine import Machine
from distill.daemon.ordering import DUE, Ordering
from distill.daemon.outcome import Outcome, bounded, paused
from distill.daemon.placing import AS_BEFORE, Placing
from distill.daemon.progress import NOTHING_MADE, Made
from distill.daemon.queue_reading import QueueReader
from distill.daemon.states import Event, State, TransitionRefusedError, next_state

Judge = Callable[[bool], Outcome]
"""Decides what an attempt's end means, given whether the user cancelled the job."""

_OF_JOBS = (
    ("dependencies", "job"),
    ("dependencies", "after"),
    ("transitions", "job"),
    ("jobs", "name"),
)
"""Tables and columns with names of jobs; the last one is the table of jobs itself"""


class Queue(QueueReader):
    """All jobs of a workspace. Safe to use from several threads and several processes."""

    def __init__(self, path: Path, named: Path | None = None) -> None:
        """Open the queue in ``path``, creating or upgrading it if necessary.

        Raises ``UserError`` if the file is damaged or belongs to a newer version. Error messages
        call it ``named``, if it is a copy.
        """
        super().__init__(path, named)
        self._ordering = Ordering(self._connection)

    def exclusive(self) -> AbstractContextManager[None]:
        """See `QueueConnection.exclusive`."""
        return self._file.exclusive()

    def undone_alone(self) -> AbstractContextManager[None]:
        """See `QueueConnection.undone_alone`."""
        return self._file.undone_alone()

    def keep_room(self) -> None:
        """See `QueueConnection.keep_room`."""
        self._file.keep_room()

    def submit(self, name: str, spec: str, now: float, placing: Placing = AS_BEFORE) -> Job:
        """Queue a new job, or an ended or waiting one again, possibly with another spec.

        Raises ``TransitionRefusedError`` if it is running, ``CircleError`` if it would wait for
        itself. Committed when it returns.
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

    def keep_provenance(self, name: str, record: str) -> None:
        """Store where a job comes from (``distill.provenance.Provenance`` as JSON)."""
        with self.exclusive():
            self._connection.execute(
                "INSERT OR REPLACE INTO provenance (job, record) VALUES (?, ?)",
                (name, _storable(record)),
            )

    def place(self, name: str, placing: Placing, now: float) -> Job:
        """Change a queued job's priority, label or dependencies, or hold it.

        It keeps its place in the queue. Raises ``CircleError`` if it would wait for itself.
        """
        with self.exclusive():
            if changes := _given(placing):
                self._update(name, **changes)
            if placing.after is not None:
                self._dependencies.set(name, placing.after)
            return self.pause(name, now) if placing.hold else self._existing(name)

    def pause(self, name: str, now: float) -> Job:
        """Keep a queued job from starting; record the request for a running one to stop.

        Raises ``TransitionRefusedError`` if it has ended.
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
        """Let a paused job start; one that has not stopped yet starts again right after.

        Raises ``TransitionRefusedError`` if it has ended.
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
        """Move a queued job before all others of its priority."""
        with self.exclusive():
            self._ordering.first(name)

    def move_last(self, name: str) -> None:
        """Move a queued job after all others of its priority that are queued now."""
        with self.exclusive():
            self._ordering.last(name)

    def move_before(self, name: str, other: str) -> None:
        """Move a queued job directly before another queued one of the same priority."""
        with self.exclusive():
            self._ordering.before(name, other)

    def drain(self, now: float) -> None:
        """Start no job until `undrain`; running jobs are not affected."""
        with self.exclusive():
            if self.drained_since() is None:
                self._connection.execute("INSERT INTO drain (since) VALUES (?)", (now,))

    def undrain(self) -> None:
        """Start jobs again."""
        with self.exclusive():
            self._connection.execute("DELETE FROM drain")

    def claim(
        self, now: float, machine: Machine | None = None, disk: int = sys.maxsize
    ) -> Job | None:
        """Mark the first due job as running, with a new attempt number, and return it.

        If jobs share a ``machine``, it is the first one that fits into what is left. ``disk`` is
        the free space in bytes, which some jobs need.
        """
        with self.exclusive():
            if self.drained_since() is not None:
                return None
            if machine is None:
                due = self._select(
                    f"INDEXED BY startable WHERE {DUE} ORDER BY priority DESC, position LIMIT 1",
                    *(now, now, disk),
                )
                name = due[0].name if due else None
            else:
                name = self._ledger.turn(DUE, (now, now, disk), machine).name
            if name is None:
                return None
            job = self._existing(name)
            fresh = {"attempt": job.attempt + 1, "attempt_id": fresh_id(), "launched": False}
            if machine is not None:
                self._ledger.take(name, job.demand, machine)
            self._move(job, Event.START, now, started_at=now, **fresh)
            return self._existing(name)

    def note_launched(self, name: str, attempt: int) -> None:
        """Record that this attempt's runner started, independently of the run folder."""
        with self.exclusive():
            self._connection.execute(
                "UPDATE jobs SET launched = 1 WHERE name = ? AND attempt = ?", (name, attempt)
            )

    def unblock(self, name: str) -> None:
        """Record that the step the job waited for is done, or no other job is doing it."""
        with self.exclusive():
            self._update(name, blocked_by=None, reason=None)

    def settle(
        self, name: str, attempt: int, judge: Judge, now: float, made: Made = NOTHING_MADE
    ) -> Job:
        """Record how an attempt ended; calls ``judge`` inside the transaction.

        Progress, given by ``made``, resets the count of interruptions.

        Raises ``TransitionRefusedError`` if the job is not running, or runs another attempt, so
        that a late report about an old attempt changes nothing.
        """
        with self.exclusive():
            job = self._existing(name)
            if job.attempt != attempt:
                raise TransitionRefusedError(f"attempt {attempt} of {name} is over")
            # Inside the transaction: a retry must not lose a cancel that came a moment ago.
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
        """Cancel a queued job at once; record the request for a running one; ignore an ended one.

        With ``force``, a running one is killed without time for a checkpoint.
        """
        with self.exclusive():
            job = self._existing(name)
            if job.state is State.QUEUED:
                outcome = {"reason": "cancelled by the user", "hint": None, "blocked_by": None}
                self._move(job, Event.CANCEL, now, finished_at=now, held=False, **outcome)
            elif job.state is State.RUNNING:
                requested = job.cancel_requested_at or now
                self._update(job.name, cancel_requested_at=requested, forced=job.forced or force)
            return self._existing(name)

    def forget(self, names: Collection[str]) -> None:
        """Delete jobs that are not running from the queue, with their histories."""
        with self.exclusive():
            every = [(name,) for name in names]
            for table, column in _OF_JOBS:
                self._connection.executemany(f"DELETE FROM {table} WHERE {column} = ?", every)

    def _insert(self, name: str, spec: str, now: float, placing: Placing) -> None:
        self._connection.execute(
            "INSERT INTO jobs (name, spec, state, position, submitted_at) VALUES (?, ?, ?, ?, ?)",
            (name, spec, State.QUEUED, self._ordering.behind_all(), now),
        )
        self._update(name, held=placing.hold, **_given(placing), **asdict(demand_of(spec)))
        self._log(self._existing(name), Event.SUBMIT, now)

    def _resubmit(self, name: str, spec: str, now: float, placing: Placing) -> None:
        fresh: dict[str, Any] = dict.fromkeys(
            ("started_at", "finished_at", "cancel_requested_at", "exit_status", "reason", "hint")
        )
        fresh |= {"spec": spec, "submitted_at": now, "position": self._ordering.behind_all()}
        fresh |= {"forced": False, "pause_requested_at": None}
        fresh |= {"interruptions": 0, "not_before": 0.0, "back_off": 0.0, "blocked_by": None}
        fresh |= {"halved": None, **asdict(NOTHING_MADE)}
        fresh |= {"held": placing.hold, **_given(placing), **asdict(demand_of(spec))}
        self._move(self._existing(name), Event.SUBMIT, now, **fresh)

    def _move(self, job: Job, event: Event, now: float, **changes: Any) -> None:
        """The only place where a state changes: checks the table, adds to the history."""
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


def _given(placing: Placing) -> dict[str, Any]:
    """The columns that a placing sets; ``None`` values are left out."""
    columns = {"priority": placing.priority, "label": placing.label}
    return {column: value for column, value in columns.items() if value is not None}


def _changes(job: Job, outcome: Outcome, now: float) -> dict[str, Any]:
    """The columns besides the state that an outcome sets."""
    changes: dict[str, Any] = {"reason": outcome.reason, "hint": outcome.hint}
    changes |= {"exit_status": outcome.exit_status, "pause_requested_at": None}
    if outcome.event is Event.PAUSE:
        return changes | {"started_at": None}
    if outcome.event is Event.WAIT:
        return changes | {"blocked_by": outcome.blocked_by, "started_at": None}
    if outcome.event is Event.INTERRUPT:
        changes |= {
            "not_before": now + outcome.delay,
            "back_off": outcome.delay,
            "started_at": None,
        }
        changes |= {"halved": outcome.reason} if outcome.out_of_memory else {}
        return changes | {"disk": max(job.demand.disk, outcome.disk)}
    return changes | {"finished_at": now, "held": False}


def _storable(value: object) -> object:
    """Text that SQLite can store: lone surrogates are written as their number."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    return value
