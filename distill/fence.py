"""A fence: whether this process's attempt may still write.

Where locks and kills are reliable, two attempts of a job are never alive at once. A cluster may
give up a node while its processes continue. Every writer for an attempt therefore first checks, by
``runner.json`` alone, that the attempt is the newest in its run folder.
"""

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from distill.run_directory import RUNNER, Record, found

TAG_VARIABLE = "DISTILL_ATTEMPT"
"""Environment variable of every process of an attempt: ``RUN_FOLDER#NUMBER-ID``"""


class Displaced(Exception):  # noqa: N818 - what happened
    """Another attempt of the job has started, or this one was closed: it must not write."""

    def __str__(self) -> str:
        return "another attempt of this job has started, or this one was abandoned"


class _Newest(Record):
    attempt: Annotated[int, Field(ge=0)]
    id: str = ""
    runner: dict[str, Any] | None


def attempt_name(number: int, attempt_id: str) -> str:
    """``NUMBER-ID``; the number alone for an attempt of versions without ids."""
    return f"{number}-{attempt_id}" if attempt_id else str(number)


def is_displaced(run: Path, name: str) -> bool:
    """Whether ``runner.json`` names an attempt other than ``name``, or says that it was closed.

    False if the file cannot be read.
    """
    newest = found(run / RUNNER, _Newest)
    if newest is None:
        return False
    return newest.runner is None or attempt_name(newest.attempt, newest.id) != name


def check_fence() -> None:
    """Raise ``Displaced`` if this process belongs to an attempt that must not write any more."""
    run, _, name = os.environ.get(TAG_VARIABLE, "").rpartition("#")
    if run and is_displaced(Path(run), name):
        raise Displaced
