"""The processes that the soak kills: a workspace's daemon and everything it started."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from curation.workspace import Workspace
from distill.daemon import client
from distill.daemon.processes import RUNNER_MODULE
from distill.fence import TAG_VARIABLE

PATIENCE = 180.0
HARM = {"start": 6, "daemon": 2, "stop": 1, "runner": 2, "job": 2, "rank": 2}
"""The possible events with their weights: start a daemon, or kill a process of this kind"""


class World:
    """A workspace, its successive daemons, and their processes."""

    def __init__(self, workspace: Workspace, counts: Counter[str]) -> None:
        self.workspace = workspace
        self._counts = counts
        self._daemon: subprocess.Popen[bytes] | None = None

    def start_daemon(self) -> None:
        """Start a daemon if none runs; it may not answer yet."""
        if self._daemon is not None and self._daemon.poll() is None:
            return
        self.workspace.root.mkdir(parents=True, exist_ok=True)
        with (self.workspace.root / "daemon-output.txt").open("ab") as log:
            self._daemon = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.daemon", str(self.workspace.root)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._counts["daemons started"] += 1

    def wait_for_daemon(self) -> None:
        """Wait until a daemon answers."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.start_daemon()
            with suppress(Exception):  # the daemon is being killed
                if client.health(self.workspace) is not None:
                    return
            if time.monotonic() > deadline:
                raise AssertionError(f"no daemon answered within {PATIENCE:.0f} s")
            time.sleep(0.05)

    def stop_daemon(self, number: int = signal.SIGKILL) -> bool:
        """Kill the daemon; returns whether there was one."""
        if self._daemon is None or self._daemon.poll() is not None:
            return False
        self._daemon.send_signal(number)
        # The kernel ends a killed process only after its last write, which took a minute once.
        self._daemon.wait(None if number == signal.SIGKILL else PATIENCE)
        return True

    def harm(self, dice: random.Random) -> None:
        """Kill something without warning, or start a daemon if none is left."""
        (kind,) = dice.choices(list(HARM), weights=list(HARM.values()))
        if kind == "start":
            self.start_daemon()
        elif kind in ("daemon", "stop"):
            if self.stop_daemon(signal.SIGTERM if kind == "stop" else signal.SIGKILL):
                self._counts["daemons killed" if kind == "daemon" else "daemons stopped"] += 1
        elif victims := [process for process, what in self.processes() if what == kind]:
            with suppress(psutil.Error):
                dice.choice(victims).kill()
                self._counts[f"{kind}s killed"] += 1

    @contextmanager
    def harmed(self, dice: random.Random) -> Iterator[None]:
        """Do harm at random moments for the duration of the block."""
        peace = threading.Event()

        def act() -> None:
            while not peace.wait(dice.uniform(0.0, 0.4)):
                self.harm(dice)

        somebody = threading.Thread(target=act)
        somebody.start()
        try:
            yield
        finally:
            peace.set()
            somebody.join()

    def processes(self) -> list[tuple[psutil.Process, str]]:
        """Every process that works for a job here, with its role: runner, job, rank."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                words = process.cmdline()
                if not any(word.startswith(f"{self.workspace.runs}{os.sep}") for word in words):
                    continue
                if RUNNER_MODULE in words:
                    found.append((process, "runner"))
                elif TAG_VARIABLE in process.environ():
                    found.append((process, "rank" if words[-1] == "rank" else "job"))
        return found

    def end(self) -> None:
        """Kill everything."""
        self.stop_daemon()
        while left := self.processes():
            for process, _ in left:
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(0.05)
