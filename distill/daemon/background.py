"""Starting a daemon that outlives the terminal."""

import subprocess
import sys
import time
from collections.abc import Sequence

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon import client, daemon_lock
from distill.daemon.notifications import NOBODY, Notify
from distill.last_words import error_in, last_line
from distill.run_directory import read_log

_START_SECONDS = 60.0
_LOOK_SECONDS = 0.1


def start(
    workspace: Workspace,
    slots: int,
    executor: str,
    notify: Notify = NOBODY,
    more: Sequence[str] = (),
) -> dict[str, object]:
    """Start a daemon and wait until it responds; returns its health. ``UserError`` if it does not.

    ``more`` are further options of `distill serve`.
    """
    workspace.daemon.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = workspace.daemon / daemon_lock.LOG
    options = ["--workspace", str(workspace.root), "--slots", str(slots), "--executor", executor]
    given = {"--notify-command": notify.command, "--notify-webhook": notify.webhook}
    options += [f"{option}={value}" for option, value in given.items() if value is not None]
    options += more
    with path.open("ab") as log:
        begin = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "distill.cli.main", "serve", *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            text = read_log(path, begin)[0].decode(errors="replace")
            reason = error_in(text) or last_line(text)
            raise UserError(f"the daemon did not start: {reason} (see {path})")
        if (health := client.health(workspace)) is not None:
            return health
        time.sleep(_LOOK_SECONDS)
    raise UserError(f"the daemon does not answer after {_START_SECONDS:.0f} s; see {path}")
