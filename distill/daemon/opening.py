"""Opening the queue of a workspace: for reading, for changes, or with an error if it is lost."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from curation.errors import UserError
from curation.workspace import QUEUE_FILE, Workspace
from distill.daemon import queue_file
from distill.daemon.queue import Queue
from distill.daemon.queue_reading import QueueReader
from distill.daemon.runfolder import OLD_RUN
from distill.run_directory import RUNNER

_MOST_NAMED = 5


@contextmanager
def read_queue(workspace: Workspace) -> Iterator[QueueReader | None]:
    """The workspace's queue for reading, even if nothing can be written; ``None`` without one.

    SQLite errors inside the block become one line for the user.
    """
    path = workspace.daemon / QUEUE_FILE
    if not path.exists():
        yield None
        return
    with queue_file.readable(path) as place, QueueReader(place, named=path) as queue:
        try:
            yield queue
        except sqlite3.Error as error:
            raise UserError(queue_file.trouble(path, error)) from None


def lost_queue(workspace: Workspace) -> UserError | None:
    """The error if run folders exist whose queue is gone; ``None`` otherwise."""
    path = workspace.daemon / QUEUE_FILE
    if path.exists():
        return None
    left = sorted(record.parent.name for record in workspace.runs.glob(f"[!.]*/{RUNNER}"))
    left = [name for name in left if OLD_RUN not in name]
    if not left:
        return None
    more = f" and {len(left) - _MOST_NAMED} more" if len(left) > _MOST_NAMED else ""
    return UserError(
        f"the queue {path} is missing, but it ran {', '.join(left[:_MOST_NAMED])}{more}; restore a "
        f"copy of it, or submit the jobs again, each with {queue_file.resubmit(path)}: finished "
        f"steps are reused"
    )


def open_queue(workspace: Workspace) -> Queue:
    """The workspace's queue, created if necessary, in a private folder of the user."""
    workspace.daemon.mkdir(parents=True, exist_ok=True)
    workspace.daemon.chmod(0o700)
    return Queue(workspace.daemon / QUEUE_FILE)
