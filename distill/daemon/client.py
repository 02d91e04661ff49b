"""The commands' access to the queue: through its file, which the daemon polls."""

import os
import socket
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any

from curation.errors import UserError
from curation.json_text import parse_json
from curation.workspace import QUEUE_FILE, Workspace
from distill.daemon import daemon_lock, removal
from distill.daemon.address import socket_path, somebody_listens
from distill.daemon.check import spec_check
from distill.daemon.cleaning import old_jobs
from distill.daemon.executor import GRACE_SECONDS, Executor
from distill.daemon.executors.registry import find_executor
from distill.daemon.job import Job, Transition
from distill.daemon.listing import Wanted
from distill.daemon.machine import Machine
from distill.daemon.names import SpecCheck
from distill.daemon.opening import lost_queue, open_queue, read_queue
from distill.daemon.placing import AS_BEFORE, Placing
from distill.daemon.queue import Queue
from distill.daemon.queue_file import trouble
from distill.daemon.queue_reading import QueueReader
from distill.daemon.refusals import unknown_job
from distill.daemon.removal import Removed
from distill.daemon.reports import JobReport, ReportPage, report, report_page
from distill.daemon.runfolder import frozen_spec
from distill.daemon.server import distill_run
from distill.daemon.service import JobService, QueueEnd
from distill.daemon.states import State
from distill.daemon.submitting import Submission
from distill.daemon.waiting import Surroundings, surroundings
from distill.spec_source import check_name

_ANSWER_SECONDS = 150.0


def health(workspace: Workspace) -> dict[str, Any] | None:
    """The daemon's health report; ``None`` if none responds."""
    return _request(workspace, "GET", "/health")


def submit(
    workspace: Workspace,
    name: str,
    spec: str,
    replace: bool,
    check: SpecCheck,
    placing: Placing = AS_BEFORE,
) -> Submission:
    """See `JobService.submit_all`. The job is on disk when this returns."""
    (submission,) = submit_all(workspace, {name: spec}, replace, check, placing)
    return submission


def submit_all(
    workspace: Workspace,
    specs: Mapping[str, str],
    replace: bool,
    check: SpecCheck,
    placing: Placing = AS_BEFORE,
) -> list[Submission]:
    """See `JobService.submit_all`. The jobs are on disk when this returns."""
    with changing(workspace, check) as service:
        return service.submit_all(specs, replace, placing)


def resume(workspace: Workspace, names: Sequence[str]) -> list[Job]:
    """See `JobService.resume`; works without a daemon."""
    find_jobs(workspace, names)
    with changing(workspace) as service:
        return service.resume(names)


def move(workspace: Workspace, name: str, to: QueueEnd | None, before: str | None) -> Job:
    """See `JobService.move`; works without a daemon."""
    find_jobs(workspace, [name] if before is None else [name, before])
    with changing(workspace) as service:
        return service.move(name, to, before)


def remove(
    workspace: Workspace, names: Sequence[str], *, bundles: bool = False, dry: bool = False
) -> Removed:
    """See `removal.remove`; works without a daemon."""
    if (lost := lost_queue(workspace)) is not None:
        raise lost  # without the queue, its jobs cannot be distinguished from runs by hand
    for name in names:  # creates nothing in the workspace if a name is unknown
        if not os.path.lexists(workspace.runs / check_name(name)):
            find_job(workspace, name)
    with changing(workspace) as service:
        return removal.remove(workspace, service.queue, names, bundles=bundles, dry=dry)


def clean(
    workspace: Workspace,
    age: float,
    state: State | None = None,
    label: str | None = None,
    *,
    bundles: bool = False,
    dry: bool = False,
) -> tuple[Removed, dict[str, str]]:
    """Remove the jobs that ended more than ``age`` seconds ago; works without a daemon.

    Also returns the jobs that stay, with the reason.
    """
    if (lost := lost_queue(workspace)) is not None:
        raise lost
    with read_queue(workspace) as queue:
        if queue is None:
            return Removed(jobs=(), bundles_kept=(), steps=0, bytes=0), {}
    with changing(workspace) as service:
        old = old_jobs(workspace, service.queue, time.time() - age, state, label)
        removed = removal.remove(workspace, service.queue, old.names, bundles=bundles, dry=dry)
    return removed, old.left


def retry(workspace: Workspace, names: Sequence[str]) -> list[Job]:
    """See `JobService.retry`; works without a daemon."""
    find_jobs(workspace, names)
    with changing(workspace) as service:
        return service.retry(names)


def drain(workspace: Workspace) -> list[str]:
    """Stop starting jobs, under any daemon; returns the names of those still running."""
    with changing(workspace) as service:
        service.drain()
        return service.queue.names(State.RUNNING)


def undrain(workspace: Workspace) -> None:
    """Start jobs again."""
    with changing(workspace) as service:
        service.undrain()


def find_jobs(workspace: Workspace, names: Sequence[str]) -> list[Job]:
    """These jobs; ``UnknownJobError`` if a name is unknown. Works without a daemon.

    Call it before a change, so that an unknown name creates nothing in the workspace.
    """
    checked = [check_name(name) for name in names]
    with read_queue(workspace) as queue:
        found = {name: None if queue is None else queue.job(name) for name in checked}
        known = [] if queue is None or all(found.values()) else queue.names()
    for name, job in found.items():
        if job is None:
            raise unknown_job(name, known, workspace)
    return [job for name in checked if (job := found[name]) is not None]


def jobs(workspace: Workspace) -> list[Job]:
    """All jobs of the workspace; empty if nothing was ever submitted. Works without a daemon."""
    with read_queue(workspace) as queue:
        return [] if queue is None else queue.jobs()


def names(workspace: Workspace, state: State | None = None) -> list[str]:
    """The names of all jobs, or of those in one state. Works without a daemon."""
    with read_queue(workspace) as queue:
        return [] if queue is None else queue.names(state)


def unfinished(workspace: Workspace, names: Collection[str]) -> frozenset[str]:
    """Those of ``names`` that are queued or running jobs."""
    if not names:
        return frozenset()
    with read_queue(workspace) as queue:
        jobs = [] if queue is None else [queue.job(name) for name in names]
    return frozenset(job.name for job in jobs if job is not None and not job.state.ended)


def job_named(workspace: Workspace, name: str) -> Job | None:
    """One job, or ``None``. Works without a daemon."""
    with read_queue(workspace) as queue:
        return None if queue is None else queue.job(name)


def find_job(workspace: Workspace, name: str) -> Job:
    """One job; ``UnknownJobError`` if there is none. Works without a daemon."""
    return find_jobs(workspace, [name])[0]


def history(workspace: Workspace, name: str) -> list[Transition]:
    """Every transition of a job, oldest first; ``UnknownJobError`` if there is no such job."""
    find_job(workspace, name)
    with read_queue(workspace) as queue:
        return [] if queue is None else queue.history(name)


def spec_of(workspace: Workspace, name: str) -> str:
    """The spec of a job, or of a folder that was run by hand or set aside.

    Raises ``UnknownJobError`` if there is neither.
    """
    with read_queue(workspace) as queue:
        return spec_in(queue, workspace, name)


def spec_in(queue: QueueReader | None, workspace: Workspace, name: str) -> str:
    """See `spec_of`, with the workspace's queue already open."""
    job = None if queue is None else queue.job(check_name(name))
    spec = frozen_spec(workspace.runs / check_name(name)) if job is None else job.spec
    if spec is None:
        raise unknown_job(name, [] if queue is None else queue.names(), workspace)
    return spec


def page(workspace: Workspace, wanted: Wanted) -> ReportPage:
    """The reports of a page of jobs. Works without a daemon.

    Raises ``UserError`` if the queue is lost.
    """
    if (error := lost_queue(workspace)) is not None:
        raise error
    with read_queue(workspace) as queue:
        if queue is None:
            return ReportPage(jobs=[], page=1, pages=1, total=0, counts={})
        return report_page(queue, wanted, partial(_surroundings, workspace, queue))


def find_report(workspace: Workspace, name: str) -> JobReport:
    """The report of one job; ``UnknownJobError`` if there is none."""
    return find_reports(workspace, [name])[0]


def find_reports(workspace: Workspace, names: Sequence[str]) -> list[JobReport]:
    """The reports of these jobs; ``UnknownJobError`` if a name is unknown."""
    jobs = find_jobs(workspace, names)
    with read_queue(workspace) as queue:
        if queue is None:
            return []
        around = _surroundings(workspace, queue, jobs)
    return [report(job, around) for job in jobs]


def drained_since(workspace: Workspace) -> float | None:
    """Since when no job starts; ``None`` if jobs start."""
    with read_queue(workspace) as queue:
        return None if queue is None else queue.drained_since()


def _surroundings(workspace: Workspace, queue: QueueReader, jobs: Sequence[Job]) -> Surroundings:
    """Includes those of the daemon, if one runs."""
    daemon = daemon_lock.find(workspace)
    slots, machine = (None, None) if daemon is None else (daemon.slots, daemon.machine)
    return surroundings(queue, slots, workspace.runs, jobs, machine)


def _capacity(workspace: Workspace) -> Machine | None:
    """The machine that jobs share, or would share under a daemon like the last one."""
    daemon = daemon_lock.find(workspace)
    return last_executor(workspace).capacity() if daemon is None else daemon.machine


def last_executor(workspace: Workspace) -> Executor:
    """The executor of the running daemon, or of the last one."""
    build = find_executor(daemon_lock.last_executor(workspace))
    return build(distill_run(workspace), GRACE_SECONDS)


@contextmanager
def changing(workspace: Workspace, check: SpecCheck | None = None) -> Iterator[JobService]:
    """A job service whose changes are on disk when the block ends; notifies the daemon.

    Raises ``UserError`` if a running daemon has another queue than the one on disk.
    """
    _request(workspace, "POST", "/wake")
    with _opened(workspace) as queue:
        capacity = partial(_capacity, workspace)
        yield JobService(workspace, queue, check or spec_check(workspace), capacity=capacity)
    _request(workspace, "POST", "/wake")


@contextmanager
def _opened(workspace: Workspace) -> Iterator[Queue]:
    """The queue, opened for writing; SQLite errors (a full disk) become one line for the user."""
    try:
        with open_queue(workspace) as queue:
            yield queue
    except sqlite3.Error as error:
        raise UserError(trouble(workspace.daemon / QUEUE_FILE, error)) from None


class _Connection(HTTPConnection):
    """HTTP on the daemon's socket, without a library that takes a tenth of a second to import."""

    def __init__(self, address: str) -> None:
        super().__init__("daemon", timeout=_ANSWER_SECONDS)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._address)


def _request(workspace: Workspace, method: str, path: str) -> dict[str, Any] | None:
    """One request; ``None`` if no daemon listens, ``UserError`` if it refuses."""
    if not somebody_listens(workspace):
        return None
    with socket_path(workspace) as address, closing(_Connection(address)) as connection:
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return _content(response.status, response.read())
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except (OSError, HTTPException) as error:
            raise UserError(
                f"the daemon of {workspace.root} does not answer ({type(error).__name__}); "
                "its log is daemon/daemon.log; run the same command again"
            ) from None


def _content(status: int, body: bytes) -> dict[str, Any]:
    try:
        answer = parse_json(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise UserError(f"the daemon answered {status} without a message; see its log")
    if status >= 400:
        raise UserError(str(answer.get("error") or f"the daemon answered {status}"))
    return answer
