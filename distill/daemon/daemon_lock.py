"""Which daemon serves a workspace, if any. The lock decides; the record only describes."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from curation.errors import UserError
from curation.locks import held, is_held
from curation.workspace import Workspace
from distill.daemon.address import listener
from distill.daemon.machine import Machine
from distill.daemon.opening import read_queue
from distill.daemon.processes import ProcessIdentity
from distill.daemon.runfolder import write_whole
from distill.daemon.states import State
from distill.run_directory import found

LOG = "daemon.log"
LOCAL = "local"
"""The default executor"""

_LOCK = "daemon.lock"
_RECORD = "daemon.json"
_LOCK_SECONDS = 1.0  # other processes hold the lock for an instant to look
_STOP_SECONDS = 30.0

# SQLite's WAL needs shared memory and locks, which these do not provide.
_NETWORK = frozenset(
    {"nfs", "nfs4", "lustre", "cifs", "smb3", "smbfs", "beegfs", "gpfs", "ceph", "glusterfs"}
    | {"fuse.sshfs", "fuse.glusterfs"}
)


class Daemon(BaseModel):
    """A running daemon (``daemon.json``)."""

    model_config = ConfigDict(frozen=True, strict=True)

    process: ProcessIdentity
    slots: Annotated[int, Field(ge=0, lt=1 << 31)]
    """1 if its record cannot be used"""
    executor: Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")] = LOCAL
    machine: Machine | None = None
    """The resources that its jobs share, if it assigns them"""


@contextmanager
def daemon_lock(
    workspace: Workspace, slots: int, executor: str = LOCAL, machine: Machine | None = None
) -> Iterator[None]:
    """Be the daemon of this workspace; ``UserError`` if another one is, or none can be.

    Also if jobs are running under another executor, because only that one can supervise them.
    """
    _prepare_folder(workspace)
    with ExitStack() as stack:
        try:
            stack.enter_context(held(workspace.daemon / _LOCK, _LOCK_SECONDS))
        except BlockingIOError:
            raise UserError(_already_served(workspace)) from None
        _check_executor(workspace, executor)
        me = ProcessIdentity.of(os.getpid())
        assert me is not None
        daemon = Daemon(process=me, slots=slots, executor=executor, machine=machine)
        write_whole(workspace.daemon / _RECORD, daemon.model_dump_json())
        yield


def _already_served(workspace: Workspace) -> str:
    daemon = find(workspace)
    pid = f" (pid {daemon.process.pid})" if daemon else ""
    return f"a daemon{pid} serves {workspace.root} already; stop it with `distill stop`"


def last_executor(workspace: Workspace) -> str:
    """The executor of the daemon that serves the workspace, or of the last one."""
    daemon = found(workspace.daemon / _RECORD, Daemon)
    return LOCAL if daemon is None else daemon.executor


def _check_executor(workspace: Workspace, executor: str) -> None:
    if (last := last_executor(workspace)) == executor:
        return
    with read_queue(workspace) as queue:
        running = [] if queue is None else queue.names(State.RUNNING)
    if running:
        raise UserError(
            f"{running[0]} runs under the executor {last!r}, and only that one can supervise it; "
            f"`distill serve --executor {last}` until it ends, or `distill cancel {running[0]}`"
        )


def find(workspace: Workspace) -> Daemon | None:
    """The daemon that serves the workspace, or ``None``."""
    if not is_held(workspace.daemon / _LOCK):
        return None
    return found(workspace.daemon / _RECORD, Daemon) or _listening(workspace)


def _listening(workspace: Workspace) -> Daemon | None:
    """The daemon behind the socket, if its record cannot be used."""
    pid = listener(workspace)
    process = None if pid is None else ProcessIdentity.of(pid)
    return None if process is None else Daemon(process=process, slots=1)


def stop(workspace: Workspace) -> Daemon | None:
    """Stop the daemon but not its jobs, and wait for it; ``None`` if there was none."""
    daemon = find(workspace)
    if daemon is None or not daemon.process.send(signal.SIGTERM):
        return None
    deadline = time.monotonic() + _STOP_SECONDS
    while is_held(workspace.daemon / _LOCK):
        if time.monotonic() > deadline:
            raise UserError(
                f"the daemon (pid {daemon.process.pid}) does not stop; "
                f"`kill -9 {daemon.process.pid}` is safe: no job is lost"
            )
        time.sleep(0.05)
    return daemon


def network_filesystem(path: Path, mounts: dict[str, str]) -> str | None:
    """The type of network file system that ``path`` is on, given mount point -> type."""
    places = [str(place) for place in (path, *path.parents) if str(place) in mounts]
    kind = mounts[places[0]] if places else ""
    return kind if kind in _NETWORK else None


def network_kind(path: Path) -> str | None:
    """The type of network file system that ``path`` is on; ``None`` for a local disk."""
    import psutil

    mounts = {entry.mountpoint: entry.fstype for entry in psutil.disk_partitions(all=True)}
    return network_filesystem(path.resolve(), mounts)


def _prepare_folder(workspace: Workspace) -> None:
    workspace.daemon.mkdir(parents=True, exist_ok=True)
    workspace.daemon.chmod(0o700)
    if kind := network_kind(workspace.daemon):
        raise UserError(
            f"the queue cannot be on {kind} ({workspace.daemon}); put the workspace on a local "
            f"disk and make its datasets/ a link to the images, or, for jobs on a cluster, make "
            f"this folder a link to a folder on a local disk"
        )
    (workspace.daemon / _LOCK).touch(mode=0o600)
