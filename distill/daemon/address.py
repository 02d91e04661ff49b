"""The daemon's socket: private, and reachable however deep the workspace lies."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curation.workspace import Workspace

SOCKET = "api.sock"
CREDENTIALS = struct.Struct("3i")
"""pid, uid, gid of the other side (unix(7), SO_PEERCRED)"""
LONGEST_PATH = 107  # sun_path without its final zero (unix(7))
_BACKLOG = 64


@contextmanager
def socket_path(workspace: Workspace) -> Iterator[str]:
    """A path of the socket that fits into an address, good as long as the block lasts."""
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
    """Whether a connection would be accepted; a socket that a dead daemon left does not."""
    return listener(workspace) is not None


def listener(workspace: Workspace) -> int | None:
    """The pid of who listens; ``None`` where nobody does."""
    if not workspace.daemon.is_dir():
        return None
    with socket_path(workspace) as path, socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        told = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, _, _ = CREDENTIALS.unpack(told)
    return int(pid)


def listen(workspace: Workspace) -> socket.socket:
    """Bind the socket, for its owner only; one that a dead daemon left is replaced.

    The caller holds the workspace's daemon lock, so nobody listens on what is removed here. Call it
    before there are threads: the umask belongs to the whole process.
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
