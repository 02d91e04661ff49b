"""The daemon's socket: private, and reachable even if the workspace path is long."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curation.workspace import Workspace

SOCKET = "api.sock"
CREDENTIALS = struct.Struct("3i")
"""pid, uid, gid of the peer (unix(7), SO_PEERCRED)"""
LONGEST_PATH = 107  # sun_path without its final zero (unix(7))
_BACKLOG = 64


@contextmanager
def socket_path(workspace: Workspace) -> Iterator[str]:
    """A path of the socket that is short enough for an address, valid inside the block."""
    path = workspace.daemon / SOCKET
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield str(path)
        return
    folder = os.open(workspace.daemon, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)


def somebody_listens(workspace: Workspace) -> bool:
    """Whether a connection would be accepted; a dead daemon's socket does not accept any."""
    return listener(workspace) is not None


def listener(workspace: Workspace) -> int | None:
    """The pid of the listening process, or ``None``."""
    if not workspace.daemon.is_dir():
        return None
    with socket_path(workspace) as path, socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, _, _ = CREDENTIALS.unpack(credentials)
    return int(pid)


def listen(workspace: Workspace) -> socket.socket:
    """Bind the socket, accessible to its owner only; replaces the socket of a dead daemon.

    The caller must hold the workspace's daemon lock, so that no live socket is removed. Call it
    before starting threads, because the umask applies to the whole process.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with socket_path(workspace) as path:
        Path(path).unlink(missing_ok=True)
        umask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(umask)
    listener.listen(_BACKLOG)
    return listener
