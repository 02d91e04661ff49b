"""Whether the attempt that this process belongs to may write still.

Two attempts of a job never live at once where locks hold and processes can be killed. On a cluster
a machine may be given up and its processes go on all the same. So whoever writes for an attempt
looks first whether it is the newest in its run folder, by ``runner.json`` alone.
"""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from distill.run_directory import RUNNER, Record, found

TAG_VARIABLE = "DISTILL_ATTEMPT"
"""In the environment of every process of an attempt: ``RUN_FOLDER#NUMBER-ID``."""


class Displaced(Exception):  # noqa: N818 - what happened
    """Another attempt of the job has begun, or this one was closed: it must not write."""

    def __str__(self) -> str:
        return "another attempt of this job has begun, or this one was abandoned"


class _Newest(Record):
    attempt: Annotated[int, Field(ge=0)]
    id: str = ""
    runner: dict[str, Any] | None


def attempt_name(number: int, attempt_id: str) -> str:
    """``NUMBER-ID``; the number alone for an attempt of the versions that gave no ids."""
    return f"{number}-{attempt_id}" if attempt_id else str(number)


def is_displaced(run: Path, name: str) -> bool:
    """Whether ``runner.json`` names another attempt than ``name``, or says that it was closed.

    What cannot be read says nothing.
    """
    newest = found(run / RUNNER, _Newest)
    if newest is None:
        return False
    return newest.runner is None or attempt_name(newest.attempt, newest.id) != name


def check_fence() -> None:
    """Raise ``Displaced`` where this process belongs to an attempt that must not write any more."""
    run, _, name = os.environ.get(TAG_VARIABLE, "").rpartition("#")
    if run and is_displaced(Path(run), name):
        raise Displaced
