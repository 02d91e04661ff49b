"""`distill serve`: one daemon per workspace. It may end at any moment; its jobs continue."""

import logging
import os
import select
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from types import FrameType

from curation.workspace import Workspace
from distill.daemon.address import listen, socket_path
from distill.daemon.check import spec_check
from distill.daemon.daemon_lock import LOCAL, daemon_lock
from distill.daemon.daemon_log import DaemonLog
from distill.daemon.executor import GRACE_SECONDS, JobCommand
from distill.daemon.executors.registry import find_executor
from distill.daemon.names import SpecCheck
from distill.daemon.notifications import NOBODY, Notify, notifying
from distill.daemon.opening import open_queue
from distill.daemon.scheduler import Scheduler
from distill.daemon.service import JobService
from distill.daemon.troubles import Troubles
from distill.process import on_stop
from distill.run_directory import SPEC

_log = logging.getLogger("distill.daemon")

_LOOK_SECONDS = 0.25
_THREADS = 4
"""Threads for requests; more would only wait for each other and for the queue."""


Pages = Callable[[JobService, int], AbstractContextManager[None]]
"""Serves web pages while its block runs, given a service and the number of slots."""


def no_pages(service: JobService, slots: int) -> AbstractContextManager[None]:
    """Serve no web pages, only the socket."""
    return nullcontext()


def distill_run(workspace: Workspace) -> JobCommand:
    """The command of real jobs: `distill run` with the spec frozen in the run folder."""

    def command(run: Path) -> list[str]:
        module = [sys.executable, "-m", "distill.cli.main"]
        return [*module, "run", str(run / SPEC), "--workspace", str(workspace.root)]

    return command


def serve(
    workspace: Workspace,
    *,
    slots: int = 1,
    executor: str = LOCAL,
    command: JobCommand | None = None,
    check: SpecCheck | None = None,
    grace: float = GRACE_SECONDS,
    notify: Notify = NOBODY,
    pages: Pages = no_pages,
) -> None:
    """Serve until TERM, INT or HUP.

    Raises ``UserError`` if another daemon does, or the queue is damaged.
    """
    place = find_executor(executor)(command or distill_run(workspace), grace)
    machine = place.capacity()
    with (
        daemon_lock(workspace, slots, executor, machine),
        open_queue(workspace) as queue,
        closing(_WakeEvent()) as wake,
    ):
        scheduler = Scheduler(
            queue, place, workspace.runs, slots=slots, machine=machine, grace=grace
        )
        checked = check or spec_check(workspace)
        service = JobService(workspace, queue, checked, wake.set, lambda: machine)
        with (
            notifying(notify, queue, workspace),
            pages(service, slots),
            _api(service, slots) as api,  # last: whoever starts a daemon waits for its response
        ):
            _log.info("pid %d serves %s with %d slots", os.getpid(), workspace.root, slots)
            if queue.drained_since() is not None:
                _log.info("no job starts before `distill undrain`")
            troubles = Troubles(_log.error)
            while not wake.stopped and api.is_alive():
                _step(scheduler, troubles)
                wake.wait(_LOOK_SECONDS)
        _log.info("stopped; running jobs continue")


class _WakeEvent:
    """Wakes the loop: set by TERM, INT or HUP, or by a request that changed the queue.

    Signal handlers set it, and they must not take a lock of `threading`: hence a descriptor.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        on_stop(self._on_signal)

    def set(self) -> None:
        os.eventfd_write(self._descriptor, 1)

    def wait(self, seconds: float) -> None:
        if select.select([self._descriptor], [], [], seconds)[0]:
            os.eventfd_read(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stopped = True
        self.set()


def _step(scheduler: Scheduler, troubles: Troubles) -> None:
    try:
        scheduler.step()
    except (OSError, sqlite3.Error) as error:
        # For example a full disk. The states on disk are consistent; the next look tries again.
        troubles.met("step", f"cannot supervise the jobs: {error}")
    else:
        troubles.over("step", "supervises the jobs again")


@contextmanager
def _api(service: JobService, slots: int) -> Iterator[threading.Thread]:
    """The HTTP API on the socket."""
    from distill.daemon.api import create_app
    from distill.daemon.connections import OwnerOnlyProtocol
    from distill.daemon.http_thread import answering

    # Not bound by uvicorn, which would make a socket path accessible to everybody (mode 0666).
    listener: socket.socket = listen(service.workspace)
    app = create_app(service, slots)
    try:
        with answering(app, listener, OwnerOnlyProtocol, threads=_THREADS, name="api") as thread:
            yield thread
    finally:
        listener.close()
        with socket_path(service.workspace) as path:
            Path(path).unlink(missing_ok=True)


def log_to_stderr(file: Path | None = None) -> None:
    """Log what the daemon does, one line each; ``file`` is its own log, size-limited."""
    logging.basicConfig(level=logging.INFO, handlers=[DaemonLog(file)])
