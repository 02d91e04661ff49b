"""Training on several ranks of this machine, followed and stopped by the job that wants it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import psutil
from pydantic import BaseModel, ConfigDict, Field

from curation.errors import UserError
from curation.json_text import read_record
from distill.notices import Notice
from distill.signals import FROM_OUTSIDE, Stopped, signal_name
from distill.training.divergence import Diverged
from distill.training.messages import Inbox, Message, log_file
from distill.training.meter import Watch

INTERVAL = 0.1
"""Seconds between two looks at the ranks."""
LAUNCHER_LOG, FAILURE = "torchrun.txt", "failure.json"
LONGEST_LINE = 300
ERRORS = {"diverged": Diverged, "error": UserError}
"""What a rank's last message is in this process."""


class EndedFromOutside(UserError):  # noqa: N818 - as Stopped: it may go on from its checkpoint
    """The kernel, an operator or a shutdown ended a process of the training with ``signal``."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = number


class FailedRank(BaseModel):
    """Which rank failed first, and how: minus the number of a signal, or an exit status."""

    model_config = ConfigDict(frozen=True, strict=True)

    rank: Annotated[int, Field(ge=0, lt=1 << 20)]
    status: Annotated[int, Field(ge=-64, le=255)]


def run_on_ranks(
    ranks: int, module: str, arguments: list[str], folder: Path, watch: Watch
) -> dict[str, float]:
    """``python -m MODULE ARGUMENTS`` as that many ranks; the losses that rank 0 ends with.

    The ranks speak to ``watch`` through ``messages`` files in ``folder``, which holds only this
    run. Raises ``Stopped`` where they were asked to stop and have saved, ``UserError`` where one
    failed, and ``EndedFromOutside`` where that was no fault of the training. None is left when this
    returns, or when this process dies.
    """
    launcher = _start(ranks, module, arguments, folder)
    try:
        return _Followed(launcher, ranks, folder, watch).to_the_end()
    finally:
        _end(launcher)


def _start(ranks: int, module: str, arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    threads = max(1, (os.cpu_count() or 1) // ranks)
    command = [str(ranks), str(folder / FAILURE), module, *arguments]
    with (folder / LAUNCHER_LOG).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "distill.training.torchrun", *command],
            env={"OMP_NUM_THREADS": str(threads), **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the job, which passes it on in its own way
        )


def _end(launcher: subprocess.Popen[bytes]) -> None:
    """Kill what is left: each rank has a session of its own."""
    with suppress(psutil.NoSuchProcess):
        tree = [psutil.Process(launcher.pid)]
        tree += tree[0].children(recursive=True)
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    launcher.wait()


class _Followed:
    """The ranks as the job sees them."""

    def __init__(
        self, launcher: subprocess.Popen[bytes], ranks: int, folder: Path, watch: Watch
    ) -> None:
        self.launcher, self.ranks, self.folder, self.watch = launcher, ranks, folder, watch
        self.inboxes = [Inbox(folder, rank) for rank in range(ranks)]
        self.first_rank: int | None = None
        self.stop_sent = False
        self.ending: dict[str, Any] = {}

    def to_the_end(self) -> dict[str, float]:
        """Relay until all ranks have ended, and say how."""
        while self.launcher.poll() is None:
            self._relay()
            if self.watch.stop() and not self.stop_sent:
                self._stop()
            time.sleep(INTERVAL)
        self._relay()
        for kind, error in ERRORS.items():
            if kind in self.ending:
                raise error(self.ending[kind])
        if self.launcher.returncode != 0:
            raise self._failure()
        if "stopped" in self.ending:
            raise Stopped
        if "done" not in self.ending:
            raise UserError(f"rank 0 ended without a word of how: {self.inboxes[0].path}")
        return self.ending["done"]

    def _relay(self) -> None:
        for inbox in self.inboxes:
            for message in inbox.read():
                self._take(message, first=inbox is self.inboxes[0])

    def _take(self, message: Message, first: bool) -> None:
        [(kind, value)] = message.items()
        if kind in ERRORS or (first and kind in ("done", "stopped")):
            failed = ERRORS.keys() & self.ending
            self.ending = {**message, **self.ending} if failed else message
        elif first and kind == "ready":
            self.first_rank = value
        elif first and kind == "metrics":
            self.watch.metrics(value)
        elif first and kind == "progress":
            self.watch.progress(*value)
        elif first and kind == "warning":
            self.watch.warn(Notice(*value))

    def _stop(self) -> None:
        """One rank is told; they agree on the step. Not through torchrun, whose patience ends.

        Ranks that do not listen yet have done nothing that is worth saving.
        """
        if self.first_rank is None:
            raise Stopped
        self.stop_sent = True
        with suppress(ProcessLookupError):
            os.kill(self.first_rank, signal.SIGTERM)

    def _failure(self) -> UserError:
        """Which rank failed and how, with the last line that it wrote."""
        log, status = self.folder / LAUNCHER_LOG, self.launcher.returncode
        if not (self.folder / FAILURE).exists():
            if -status in FROM_OUTSIDE:
                return EndedFromOutside(f"torchrun was ended by {signal_name(-status)}", -status)
            return UserError(
                f"torchrun could not start the {self.ranks} ranks: {_tail(log)} ({log})"
            )
        first = read_record(self.folder / FAILURE, FailedRank)
        status, log = first.status, log_file(self.folder, first.rank)
        how = f"was ended by {signal_name(-status)}" if status < 0 else "failed"
        memory = "; was there enough memory?" if status == -signal.SIGKILL else ""
        told = f"rank {first.rank} of {self.ranks} {how}{memory} Its log {log} ends: {_tail(log)}"
        return EndedFromOutside(told, -status) if -status in FROM_OUTSIDE else UserError(told)


def fresh_folder(folder: Path) -> Path:
    """The folder, without what an earlier run left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _tail(log: Path) -> str:
    """The last line that says something."""
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return "(nothing)"
    return next(
        (line.strip()[:LONGEST_LINE] for line in reversed(lines) if line.strip()), "(nothing)"
    )
