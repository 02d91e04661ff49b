"""Which old jobs can be removed, and which must stay because other jobs need them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon.job import Job
from distill.daemon.queue import Queue
from distill.daemon.runfolder import in_use
from distill.daemon.states import State

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_AGE = re.compile(r"(?P<count>\d{1,9}(?:\.\d{1,9})?)(?P<unit>[smhdw])")


@dataclass(frozen=True, kw_only=True)
class Old:
    """Jobs that ended long ago."""

    names: tuple[str, ...]
    left: dict[str, str]
    """Jobs that cannot be removed now, with the reason"""


def old_jobs(
    workspace: Workspace,
    queue: Queue,
    before: float,
    state: State | None = None,
    label: str | None = None,
) -> Old:
    """The jobs that ended before a time (epoch seconds), in one state or with one label."""
    ended = [job for job in queue.jobs(state, label) if _ended_before(job, before)]
    left = dict(_in_the_way(workspace, queue, ended))
    return Old(names=tuple(job.name for job in ended if job.name not in left), left=left)


def parse_age(text: str) -> float:
    """``30d`` in seconds; ``UserError`` if the text is not such a duration."""
    found = _AGE.fullmatch(text.strip().lower())
    if found is None:
        raise UserError(
            f"{text[:40]!r} is not a duration; give a number with s, m, h, d or w, such as 30d or "
            f"12h"
        )
    return float(found["count"]) * _SECONDS[found["unit"]]


def _ended_before(job: Job, before: float) -> bool:
    """A clock that was set back makes a job end before its start: then its latest time counts."""
    if not job.state.ended or job.finished_at is None:
        return False
    return max(job.finished_at, job.started_at or 0.0, job.submitted_at) < before


def _in_the_way(workspace: Workspace, queue: Queue, jobs: list[Job]) -> Iterator[tuple[str, str]]:
    for job in jobs:
        waiting = [other.name for other in queue.dependants(job.name) if not other.state.ended]
        if waiting:
            yield job.name, f"job {waiting[0]!r} starts after it"
        elif in_use(workspace.runs / job.name):
            yield job.name, "its run folder is in use"
