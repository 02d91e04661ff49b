"""Telling others of each end of a job: a command that gets it on its input, or a web address.

The history of the queue is the list of what is to be told, so nothing is kept in memory, and a
thread of its own does the telling, so nothing waits for whom is told. Each end that comes while the
daemon runs is told at most once, in order.
"""

import logging
import shlex
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from curation.errors import UserError
from curation.json_text import as_json
from curation.workspace import Workspace
from distill.daemon.queue import Queue
from distill.daemon.reports import iso
from distill.daemon.troubles import Troubles
from distill.last_words import last_line
from distill.run_directory import one_line, read_log

_log = logging.getLogger("distill.daemon")

LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 10.0
"""How long whoever is told may take."""
FAILED = "notify-failed.txt"
"""In the daemon's folder: why the last telling failed, until `distill status` has said it."""


@dataclass(frozen=True)
class Notify:
    """Who is told; ``UserError`` where that cannot be."""

    command: str | None = None
    """A program and its arguments, as a shell would split them; there is no shell."""
    webhook: str | None = None
    """An address for an HTTP POST."""

    def __post_init__(self) -> None:
        if self.command is not None:
            _words(self.command)
        if self.webhook is not None:
            _check_address(self.webhook)

    def tell(self, text: str) -> None:
        """Hand the text to each; ``OSError`` and its kind where one does not take it."""
        if self.command is not None:
            _run(_words(self.command), text)
        if self.webhook is not None:
            _post(self.webhook, text)


NOBODY = Notify()


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"--notify-command {command!r:.200} cannot be split: {error}") from None
    if not words or shutil.which(words[0]) is None:
        program = words[0] if words else ""
        raise UserError(f"--notify-command: {program!r:.200} is not an executable program")
    return words


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        good = False
    if not good or any(letter <= " " for letter in address):
        raise UserError(
            f"--notify-webhook {address!r:.200} is not an address; allowed: an address such as "
            f"https://host/path"
        )


def _run(words: list[str], text: str) -> None:
    try:
        ended = subprocess.run(
            words, input=text.encode(), capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{words[0]} took longer than {PATIENCE_SECONDS:g} s") from None
    if ended.returncode:
        said = last_line(ended.stderr.decode(errors="replace"))
        raise OSError(f"{words[0]} ended with status {ended.returncode}: {said}")


def _post(address: str, text: str) -> None:
    import urllib.request  # takes a while, and most daemons tell nobody
    from http.client import HTTPException

    asked = urllib.request.Request(
        address, text.encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(asked, timeout=PATIENCE_SECONDS):
            pass
    except HTTPException as error:
        raise OSError(f"{address} does not answer in HTTP ({type(error).__name__})") from None


@contextmanager
def notifying(notify: Notify, queue: Queue, workspace: Workspace) -> Iterator[None]:
    """Tell of every job that ends while the block runs."""
    if notify == NOBODY:
        yield
        return
    over = threading.Event()
    teller = _Teller(notify, queue, workspace, queue.last_transition())
    thread = threading.Thread(target=teller.run, args=(over,), name="notify", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1.0)  # somebody who takes their time is not waited for


class _Teller:
    def __init__(self, notify: Notify, queue: Queue, workspace: Workspace, told: int) -> None:
        self._notify, self._queue, self._workspace = notify, queue, workspace
        self._told = told
        self._troubles = Troubles(_log.warning)

    def run(self, over: threading.Event) -> None:
        while not over.wait(LOOK_SECONDS):
            with suppress(sqlite3.Error):  # locked, or closed at the daemon's end
                for number, text in self._new():
                    self._told = number
                    if text is not None:
                        self._tell(text)
                    if over.is_set():
                        return

    def _new(self) -> Iterator[tuple[int, str | None]]:
        """Each transition since, and what is to be told of it."""
        for number, name, line in self._queue.transitions_after(self._told):
            job = self._queue.job(name) if line.state.ended else None
            if job is None:
                yield number, None
                continue
            began = job.started_at
            told = {"name": name, "state": line.state, "attempt": line.attempt}
            told |= {"reason": line.reason, "hint": job.hint, "label": job.label}
            told |= {"submitted_at": iso(job.submitted_at), "finished_at": iso(line.at)}
            told |= {"started_at": None if began is None else iso(began)}
            yield number, as_json({**told, "workspace": str(self._workspace.root)})

    def _tell(self, text: str) -> None:
        try:
            self._notify.tell(text)
        except (OSError, ValueError, UserError) as error:
            why = one_line(f"could not notify of the end of a job: {error or type(error).__name__}")
            self._troubles.met("notify", why)
            with suppress(OSError):
                (self._workspace.daemon / FAILED).write_text(why)
        else:
            self._troubles.over("notify", "notifications work again")


def take_failure(workspace: Workspace) -> str | None:
    """Why the last telling failed, where nobody has been told that yet."""
    path = workspace.daemon / FAILED
    try:
        said = read_log(path, 0)[0].decode(errors="replace")
        path.unlink()
    except (OSError, UserError):
        return None
    return one_line(said) or None
