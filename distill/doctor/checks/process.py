"""What this machine allows a process: open files, a socket, ports, name resolution."""

import os
import resource
import socket
from collections.abc import Iterator

from curation.errors import UserError
from curation.wording import counted
from curation.workspace import Workspace
from distill.daemon import daemon_lock
from distill.daemon.address import LONGEST_PATH, SOCKET
from distill.doctor.examination import Diagnosis, check, ok, warning, wrong

FEW_FILES = 4096


@check("daemon")
def daemon(workspace: Workspace) -> Iterator[Diagnosis]:
    """Whether a daemon is running, and whether its queue can be read."""
    from distill.daemon.opening import lost_queue, read_queue

    if (lost := lost_queue(workspace)) is not None:
        yield wrong(str(lost), "see docs/daemon.md: what survives what")
        return
    try:
        with read_queue(workspace) as queue:
            jobs = 0 if queue is None else sum(queue.counts().values())
    except UserError as error:
        yield wrong(str(error), "see docs/daemon.md: what survives what")
        return
    found = daemon_lock.find(workspace)
    state = f"pid {found.process.pid} with {found.slots} slots" if found else "none is running"
    yield ok(f"{state}; {counted(jobs, 'job')} in the queue")


@check("socket")
def socket_path(workspace: Workspace) -> Iterator[Diagnosis]:
    """Whether other programs can reach the daemon through the socket's full path."""
    path = workspace.daemon / SOCKET
    size = len(os.fsencode(path))
    if size > LONGEST_PATH:
        yield warning(
            f"{path} has {size} bytes, a socket's path at most {LONGEST_PATH}: distill can use it, "
            f"curl cannot",
            "use a workspace with a shorter path, or give curl a relative path",
        )
    else:
        yield ok(f"{path}, {size} of {LONGEST_PATH} bytes")


@check("ports")
def ports(workspace: Workspace) -> Iterator[Diagnosis]:
    """Whether ranks can connect on this machine: a free port, and a host name that resolves."""
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError as error:
        yield wrong(f"no network port can be opened: {error}", "check the firewall")
        return
    name = socket.gethostname()
    try:
        address = socket.gethostbyname(name)
    except OSError as error:
        yield warning(
            f"this machine's name {name!r} does not resolve ({error}): several ranks may not start",
            f"add `127.0.1.1 {name}` to /etc/hosts, or set GLOO_SOCKET_IFNAME and "
            "NCCL_SOCKET_IFNAME",
        )
        return
    yield ok(f"ranks can connect; {name} is {address}")


@check("open files")
def open_files(workspace: Workspace) -> Iterator[Diagnosis]:
    """The limit of open files: loaders, ranks and the daemon need many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FEW_FILES:
        more = "`ulimit -n 65536`" if hard < 0 or hard >= 65536 else f"`ulimit -n {hard}`"
        yield warning(f"at most {soft:,} in a process", f"{more} before `distill serve`")
    else:
        yield ok("no limit" if soft < 0 else f"at most {soft:,} in a process")
