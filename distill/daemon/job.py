"""A job and a line of its history, as the queue's tables hold them."""

import sqlite3
from dataclasses import dataclass

from distill.daemon.demand import DEMAND_COLUMNS, Demand
from distill.daemon.progress import Made
from distill.daemon.states import Event, State


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


def job_of(row: sqlite3.Row) -> Job:
    values = dict(row)
    demand = Demand(**{column: values.pop(column) for column in DEMAND_COLUMNS})
    made = Made(iterations=values.pop("iterations"), images=values.pop("images"))
    flags = {name: bool(values[name]) for name in ("launched", "held", "forced")}
    return Job(**{**values, "state": State(row["state"]), **flags, "demand": demand, "made": made})


def transition_of(row: sqlite3.Row) -> Transition:
    return Transition(
        at=row["at"],
        attempt=row["attempt"],
        event=Event(row["event"]),
        state=State(row["state"]),
        reason=row["reason"],
    )
