"""A page of jobs, newest first. Jobs that are running or failed recently are on every page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill.daemon.states import State

if TYPE_CHECKING:
    import sqlite3  # not needed for the limits in a command's help

LIMIT, MOST = 50, 1000
"""Default and maximum number of jobs on a page"""
FAILED_SHOWN = 20
"""The newest failed jobs of other pages that every page shows"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which jobs to list, and which page of them, counted from 1."""

    state: State | None = None
    label: str | None = None
    page: int = 1
    limit: int = LIMIT


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The names on a page, and the number of jobs in each state."""

    names: Sequence[str]
    counts: dict[State, int]
    """Over all jobs, or those with the requested label"""
    total: int
    """The number of matching jobs"""
    pages: int


def listed(connection: "sqlite3.Connection", wanted: Wanted) -> Listed:
    """The page; reads only the index ``listed``, however large the jobs are."""
    by_state = counts(connection, wanted.label)
    total = sum(by_state.values()) if wanted.state is None else by_state[wanted.state]
    on_page = _names(
        connection, wanted.state, wanted.label, wanted.limit, (wanted.page - 1) * wanted.limit
    )
    always: list[str] = []
    if wanted.state is None:
        always += _names(connection, State.RUNNING, wanted.label, MOST)
        always += _names(connection, State.FAILED, wanted.label, FAILED_SHOWN)
    names = [*(name for name in always if name not in on_page), *on_page]
    pages = max(1, -(-total // wanted.limit))
    return Listed(names=names, counts=by_state, total=total, pages=pages)


def counts(connection: "sqlite3.Connection", label: str | None = None) -> dict[State, int]:
    """The number of jobs in each state, with a label if one is given."""
    rows = connection.execute(
        "SELECT state, count(*) FROM jobs INDEXED BY listed"
        " WHERE ?1 IS NULL OR label = ?1 GROUP BY state",
        (label,),
    )
    found = dict(map(tuple, rows))
    return {state: found.get(state, 0) for state in State}


def _names(
    connection: "sqlite3.Connection",
    state: State | None,
    label: str | None,
    limit: int,
    offset: int = 0,
) -> list[str]:
    rows = connection.execute(
        "SELECT name FROM jobs INDEXED BY listed"
        " WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR label = ?2)"
        " ORDER BY submitted_at DESC, position DESC LIMIT ?3 OFFSET ?4",
        (state, label, limit, offset),
    )
    return [name for (name,) in rows]


def in_this_order(names: Sequence[str]) -> tuple[str, str]:
    """The end of a query for these jobs in this order, and its parameter."""
    chosen = "JOIN json_each(?) AS chosen ON chosen.value = jobs.name ORDER BY chosen.key"
    return chosen, json.dumps(list(names))
