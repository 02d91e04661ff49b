"""A job and a transition of its history, as stored in the queue's tables."""

import sqlite3
from dataclasses import dataclass
from typing import TypeVar

from distill.daemon.demand import DEMAND_COLUMNS, Demand
from distill.daemon.progress import Made
from distill.daemon.states import Event, State

_Word = TypeVar("_Word", Event, State)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job in the queue; times are epoch seconds."""

    name: str
    spec: str
    state: State
    position: int
    """The order of submission; within one priority, lower starts first."""
    attempt: int
    """The number of starts of this name in this queue; never decreases."""
    attempt_id: str
    """Distinguishes the attempt from those of other queues; see ``attempts.Attempt``."""
    launched: bool
    """Its runner is known to have started."""
    interruptions: int
    """Attempts of the newest submit that ended through no fault of the job"""
    not_before: float
    back_off: float
    """How many seconds ``not_before`` was in the future when it was set"""
    blocked_by: str | None
    """For a queued job, the step that another job is doing (its folder in ``steps/``)"""
    priority: int
    """Higher starts first."""
    held: bool
    """Queued and not to be started until resumed; or running, and to be held when it stops."""
    label: str
    """Shared by several jobs; empty if none was given"""
    unmet: int
    """The number of unfinished dependencies; the job starts when it is 0."""
    made: Made
    """Its progress at its last interruption"""
    halved: str | None
    """Why its micro-batches were halved, if they were"""
    demand: Demand
    """The resources that its spec asks for"""
    submitted_at: float
    started_at: float | None
    finished_at: float | None
    cancel_requested_at: float | None
    forced: bool
    """It is cancelled without time for a checkpoint."""
    pause_requested_at: float | None
    """When its attempt was asked to stop and be queued again"""
    exit_status: int | None
    reason: str | None
    hint: str | None


@dataclass(frozen=True, kw_only=True)
class Transition:
    """One transition in a job's history."""

    at: float
    attempt: int
    event: Event
    state: State
    reason: str | None


def job_of(row: sqlite3.Row) -> Job:
    """The job in a row; ``sqlite3.DatabaseError`` if its state is none of ours."""
    values = dict(row)
    demand = Demand(**{column: values.pop(column) for column in DEMAND_COLUMNS})
    made = Made(iterations=values.pop("iterations"), images=values.pop("images"))
    flags = {name: bool(values[name]) for name in ("launched", "held", "forced")}
    return Job(
        **{**values, "state": _one_of(State, row["state"]), **flags, "demand": demand, "made": made}
    )


def transition_of(row: sqlite3.Row) -> Transition:
    """The transition in a row; ``sqlite3.DatabaseError`` if its event or state is none of ours."""
    return Transition(
        at=row["at"],
        attempt=row["attempt"],
        event=_one_of(Event, row["event"]),
        state=_one_of(State, row["state"]),
        reason=row["reason"],
    )


def _one_of(kind: type[_Word], value: str) -> _Word:
    try:
        return kind(value)
    except ValueError:
        raise sqlite3.DatabaseError(f"{value[:40]!r} is no {kind.__name__.lower()}") from None
