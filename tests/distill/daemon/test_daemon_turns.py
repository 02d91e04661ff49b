"""A hundred submits at once: few are checked at a time, and their order stays."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import anyio
import httpx
import pytest
from conftest import Harness, spec

from curation.errors import UserError
from distill.daemon.api import CHECKS_AT_ONCE, create_app
from distill.daemon.names import Checked
from distill.daemon.service import JobService, open_queue
from distill.daemon.turns import RequestOrder


class Checks:
    """A check that takes its time, and counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = self.all = 0

    def __call__(self, text: str) -> Checked:
        with self._lock:
            self.now += 1
            self.all += 1
            self.most = max(self.most, self.now)
        time.sleep(random.Random(text).uniform(0, 0.02))
        with self._lock:
            self.now -= 1
        if "bad" in text:
            raise UserError("it cannot be run")
        return Checked()


def test_a_hundred_submits_at_once_keep_their_order(harness: Harness) -> None:
    harness.workspace.root.mkdir()
    checks = Checks()
    names = [f"{'bad' if number % 7 == 3 else 'job'}-{number}" for number in range(100)]
    with open_queue(harness.workspace) as queue:
        app = create_app(JobService(harness.workspace, queue, checks), 1)

        async def submit_all() -> list[int]:
            statuses = [0] * len(names)
            transport = httpx.ASGITransport(app)
            async with (
                httpx.AsyncClient(transport=transport, base_url="http://daemon") as client,
                anyio.create_task_group() as tasks,
            ):

                async def submit(number: int) -> None:
                    asked = client.post("/jobs", content=spec(names[number]), timeout=60)
                    statuses[number] = (await asked).status_code

                for number in range(len(names)):
                    tasks.start_soon(submit, number)
                    await anyio.sleep(0)
            return statuses

        statuses = anyio.run(submit_all)
        assert [status == 422 for status in statuses] == ["bad" in name for name in names]
        assert queue.names() == [name for name in names if "bad" not in name]
    assert checks.all == 100
    assert checks.most <= CHECKS_AT_ONCE


@pytest.mark.parametrize("seed", range(5))
def test_turns_take_effect_in_their_order(seed: int) -> None:
    turns, done = RequestOrder(), list[int]()

    def prepare(number: int, held: ExitStack, turn: Callable[[], None]) -> None:
        with held:
            time.sleep(random.Random(f"{seed} {number}").uniform(0, 0.02))
            if number % 5 == 2:
                return  # it was refused
            turn()
            done.append(number)

    threads = []
    for number in range(20):
        held = ExitStack()
        asked = (number, held, held.enter_context(turns.taken()))
        threads.append(threading.Thread(target=prepare, args=asked))
    random.Random(seed).shuffle(threads)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert done == [number for number in range(20) if number % 5 != 2]


CHECKING = """
import os, sys, time
from pathlib import Path
from curation.workspace import Workspace
from distill.daemon.turns import one_of_two
root = Path(sys.argv[1])
with one_of_two(Workspace(root)):
    mine = root / "now" / str(os.getpid())
    mine.touch()
    with (root / "seen").open("a") as seen:
        seen.write(f"{len(list((root / 'now').iterdir()))}\\n")
    time.sleep(0.05)
    mine.unlink()
"""


def test_of_many_processes_two_check_at_a_time(tmp_path: Path) -> None:
    for folder in ("now", "datasets"):
        (tmp_path / folder).mkdir()
    started = [
        subprocess.Popen([sys.executable, "-c", CHECKING, str(tmp_path)], env=dict(os.environ))
        for _ in range(8)
    ]
    assert [process.wait(60) for process in started] == [0] * 8
    seen = [int(line) for line in (tmp_path / "seen").read_text().split()]
    assert len(seen) == 8
    assert max(seen) <= 2
