"""The tables of the queue, one migration per released version. Migrations are only ever added."""

import sqlite3
from pathlib import Path

from curation.errors import UserError
from distill.daemon.demand import DEMAND_COLUMNS

JOB_COLUMNS = (
    "name",
    "spec",
    "state",
    "position",
    "attempt",
    "attempt_id",
    "launched",
    "interruptions",
    "not_before",
    "back_off",
    "blocked_by",
    "priority",
    "held",
    "label",
    "unmet",
    *DEMAND_COLUMNS,
    "iterations",
    "images",
    "halved",
    "submitted_at",
    "started_at",
    "finished_at",
    "cancel_requested_at",
    "forced",
    "pause_requested_at",
    "exit_status",
    "reason",
    "hint",
)

_VERSION_1 = (
    """
    CREATE TABLE jobs (
        name TEXT PRIMARY KEY,
        spec TEXT NOT NULL,
        state TEXT NOT NULL
            CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
        position INTEGER NOT NULL UNIQUE,
        attempt INTEGER NOT NULL DEFAULT 0,
        interruptions INTEGER NOT NULL DEFAULT 0,
        not_before REAL NOT NULL DEFAULT 0,
        submitted_at REAL NOT NULL,
        started_at REAL,
        finished_at REAL,
        cancel_requested_at REAL,
        exit_status INTEGER,
        reason TEXT,
        hint TEXT,
        CHECK ((state IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
        CHECK (state != 'running' OR (started_at IS NOT NULL AND attempt > 0)),
        CHECK (state != 'queued' OR started_at IS NULL),
        CHECK (state != 'failed' OR reason IS NOT NULL)
    ) STRICT
    """,
    """
    CREATE TABLE transitions (
        id INTEGER PRIMARY KEY,
        job TEXT NOT NULL REFERENCES jobs (name),
        at REAL NOT NULL,
        attempt INTEGER NOT NULL,
        event TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT
    ) STRICT
    """,
    "CREATE INDEX transitions_of_job ON transitions (job, id)",
)

# For the queries that run four times a second: the running jobs, and the next one.
_VERSION_2 = ("CREATE INDEX jobs_by_state ON jobs (state, position)",)

_VERSION_3 = (
    "ALTER TABLE jobs ADD COLUMN attempt_id TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN launched INTEGER NOT NULL DEFAULT 0 CHECK (launched IN (0, 1))",
    "ALTER TABLE jobs ADD COLUMN back_off REAL NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN blocked_by TEXT",
    "CREATE INDEX blocked_jobs ON jobs (position) WHERE blocked_by IS NOT NULL",
)

_VERSION_4 = (
    "ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN held INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1))",
    "ALTER TABLE jobs ADD COLUMN label TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX jobs_by_priority ON jobs (state, held, priority DESC, position)",
)

# At most one row, which means that no job starts.
_VERSION_5 = ("CREATE TABLE drain (since REAL NOT NULL) STRICT",)

# `unmet` counts unfinished dependencies, so that a claim reads `startable` alone.
_VERSION_6 = (
    """
    CREATE TABLE dependencies (
        job TEXT NOT NULL REFERENCES jobs (name),
        after TEXT NOT NULL REFERENCES jobs (name),
        PRIMARY KEY (job, after),
        CHECK (job != after)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX dependants ON dependencies (after)",
    "ALTER TABLE jobs ADD COLUMN unmet INTEGER NOT NULL DEFAULT 0",
    "DROP INDEX jobs_by_priority",
    """
    CREATE INDEX startable ON jobs (priority DESC, position)
    WHERE state = 'queued' AND held = 0 AND unmet = 0 AND blocked_by IS NULL
    """,
)

# Separate from the jobs, which a list reads completely.
_VERSION_7 = (
    """
    CREATE TABLE provenance (
        job TEXT PRIMARY KEY REFERENCES jobs (name) ON DELETE CASCADE,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)

# The resources that a job needs, and the assignment of GPUs.
_VERSION_8 = (
    "ALTER TABLE jobs ADD COLUMN gpus INTEGER",
    "ALTER TABLE jobs ADD COLUMN ranks INTEGER",
    "ALTER TABLE jobs ADD COLUMN cpus INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN memory INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN disk INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN nodes INTEGER NOT NULL DEFAULT 1",
    """
    CREATE TABLE gpus (
        uuid TEXT PRIMARY KEY,
        number INTEGER NOT NULL,
        job TEXT NOT NULL REFERENCES jobs (name)
    ) STRICT
    """,
)

# `hold` and `release` became part of `pause` and `resume`.
_VERSION_9 = (
    "ALTER TABLE jobs ADD COLUMN forced INTEGER NOT NULL DEFAULT 0 CHECK (forced IN (0, 1))",
    "ALTER TABLE jobs ADD COLUMN pause_requested_at REAL",
    "UPDATE transitions SET event = 'pause' WHERE event = 'hold'",
    "UPDATE transitions SET event = 'resume' WHERE event = 'release'",
)

# Covers every filter of a job list, so that the rows with their specs are not read.
_VERSION_10 = (
    "CREATE INDEX listed ON jobs (submitted_at DESC, position DESC, state, label, name)",
)

# A job's progress at its last interruption, and whether memory ran out.
_VERSION_11 = (
    "ALTER TABLE jobs ADD COLUMN iterations INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN images INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN halved TEXT",
)

MIGRATIONS = (
    _VERSION_1,
    _VERSION_2,
    _VERSION_3,
    _VERSION_4,
    _VERSION_5,
    _VERSION_6,
    _VERSION_7,
    _VERSION_8,
    _VERSION_9,
    _VERSION_10,
    _VERSION_11,
)


def has_tables(connection: sqlite3.Connection) -> bool:
    """Whether any version of this software created the file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(version > 0)


def is_current(connection: sqlite3.Connection) -> bool:
    """Whether the tables are those of this version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(version == len(MIGRATIONS))


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Upgrade the file to the newest version, inside the caller's transaction.

    Raises ``UserError`` if a newer version of this software wrote it.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise UserError(
            f"the queue {path} has version {version}, this software knows {len(MIGRATIONS)}; "
            "use the newer software that wrote it"
        )
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            connection.execute(statement)
    # PRAGMA does not accept parameters.
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
