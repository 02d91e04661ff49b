"""Notification of each end of a job: a command that reads it from stdin, or a webhook.

Notifications are derived from the queue's history, so nothing is kept in memory. They are sent by a
separate thread, so nothing waits for the recipient. Each end that occurs while the daemon runs is
sent at most once, in order.
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
from functools import partial
from urllib.parse import urlsplit

from curation.errors import UserError
from curation.json_text import as_json
from curation.workspace import Workspace
from distill.daemon.patience import within
from distill.daemon.queue import Queue
from distill.daemon.reports import iso
from distill.daemon.troubles import Troubles
from distill.last_words import last_line
from distill.run_directory import one_line, read_log

_log = logging.getLogger("distill.daemon")

LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 10.0
"""Time limit of a recipient"""
FAILED = "notify-failed.txt"
"""File in the daemon's folder: why the last notification failed, until `distill status` shows it"""


@dataclass(frozen=True)
class Notify:
    """The recipients; ``UserError`` if they are invalid."""

    command: str | None = None
    """A program and its arguments, split as by a shell; no shell runs."""
    webhook: str | None = None
    """The URL of an HTTP POST"""

    def __post_init__(self) -> None:
        if self.command is not None:
            _words(self.command)
        if self.webhook is not None:
            _check_address(self.webhook)

    def send(self, text: str) -> None:
        """Send the text to each recipient; ``OSError`` or a subclass if one does not accept it."""
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
        reason = last_line(ended.stderr.decode(errors="replace"))
        raise OSError(f"{words[0]} ended with status {ended.returncode}: {reason}")


def _post(address: str, text: str) -> None:
    import urllib.request  # slow to import, and most daemons notify nobody
    from http.client import HTTPException

    request = urllib.request.Request(
        address, text.encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with within(
            PATIENCE_SECONDS, partial(urllib.request.urlopen, request, None, PATIENCE_SECONDS)
        ):
            pass
    except HTTPException as error:
        raise OSError(f"{address} does not answer in HTTP ({type(error).__name__})") from None


@contextmanager
def notifying(notify: Notify, queue: Queue, workspace: Workspace) -> Iterator[None]:
    """Send a notification for every job that ends while the block runs."""
    if notify == NOBODY:
        yield
        return
    over = threading.Event()
    sender = _Sender(notify, queue, workspace, queue.last_transition())
    thread = threading.Thread(target=sender.run, args=(over,), name="notify", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1.0)  # do not wait for a slow recipient


class _Sender:
    def __init__(self, notify: Notify, queue: Queue, workspace: Workspace, last_sent: int) -> None:
        self._notify, self._queue, self._workspace = notify, queue, workspace
        self._last_sent = last_sent
        self._troubles = Troubles(_log.warning)

    def run(self, over: threading.Event) -> None:
        while not over.wait(LOOK_SECONDS):
            with suppress(sqlite3.Error):  # locked, or closed at the daemon's end
                for number, text in self._new():
                    self._last_sent = number
                    if text is not None:
                        self._send(text)
                    if over.is_set():
                        return

    def _new(self) -> Iterator[tuple[int, str | None]]:
        """Each new transition, and its notification if it has one."""
        for number, name, line in self._queue.transitions_after(self._last_sent):
            job = self._queue.job(name) if line.state.ended else None
            if job is None:
                yield number, None
                continue
            began = job.started_at
            message = {"name": name, "state": line.state, "attempt": line.attempt}
            message |= {"reason": line.reason, "hint": job.hint, "label": job.label}
            message |= {"submitted_at": iso(job.submitted_at), "finished_at": iso(line.at)}
            message |= {"started_at": None if began is None else iso(began)}
            yield number, as_json({**message, "workspace": str(self._workspace.root)})

    def _send(self, text: str) -> None:
        try:
            self._notify.send(text)
        except (OSError, ValueError, UserError) as error:
            why = one_line(f"could not notify of the end of a job: {error or type(error).__name__}")
            self._troubles.met("notify", why)
            with suppress(OSError):
                (self._workspace.daemon / FAILED).write_text(why)
        else:
            self._troubles.over("notify", "notifications work again")


def take_failure(workspace: Workspace) -> str | None:
    """Why the last notification failed, if that has not been reported yet."""
    path = workspace.daemon / FAILED
    try:
        text = read_log(path, 0)[0].decode(errors="replace")
        path.unlink()
    except (OSError, UserError):
        return None
    return one_line(text) or None
