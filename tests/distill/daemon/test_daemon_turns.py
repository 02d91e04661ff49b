"""A hundred concurrent submits: few are checked at a time, and their order is kept."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import httpx
import pytest
from anyio import to_thread
from daemon_under_test import accept

from curation.errors import UserError
from distill.daemon.api import create_app
from distill.daemon.api_submit import CHECKS_AT_ONCE
from distill.daemon.names import Checked
from distill.daemon.opening import open_queue
from distill.daemon.placing import Placing
from distill.daemon.runfolder import frozen_spec
from distill.daemon.service import JobService
from distill.daemon.turns import Batched, RequestOrder
from tests.distill.daemon.harness import Harness, spec


class Checks:
    """A slow check that counts."""

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

    async def request(number: int) -> None:
        with turns.taken() as turn:
            await anyio.sleep(random.Random(f"{seed} {number}").uniform(0, 0.02))
            if number % 5 == 2:
                return  # it was refused
            await turn()
            done.append(number)

    async def all_at_once() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(request, number)
                await anyio.sleep(0)

    anyio.run(all_at_once)
    assert done == [number for number in range(20) if number % 5 != 2]


def test_a_client_that_leaves_does_not_block_others() -> None:
    turns, done = RequestOrder(), list[int]()

    async def request(number: int, scope: anyio.CancelScope, seconds: float) -> None:
        with scope, turns.taken() as turn:
            await anyio.sleep(seconds)
            await turn()
            done.append(number)

    async def all_at_once() -> None:
        scopes = [anyio.CancelScope() for _ in range(4)]
        async with anyio.create_task_group() as tasks:
            for number, (scope, seconds) in enumerate(zip(scopes, (0, 60, 0, 0), strict=True)):
                tasks.start_soon(request, number, scope, seconds)
                await anyio.sleep(0)
            scopes[2].cancel()  # while it waits for its turn
            await anyio.sleep(0.01)
            scopes[1].cancel()  # while it is prepared

    anyio.run(all_at_once)
    assert done == [0, 3]


class Disk:
    """Writes batches slowly, and records them."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Event()
        self.free = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[str]:
        self.begun.set()
        assert self.free.wait(20)
        self.batches.append(list(items))
        if 13 in items:
            raise OSError("no space left")
        return [f"wrote {item}" for item in items]


async def write_all(batched: Batched[int, str], disk: Disk, items: Sequence[int]) -> list[object]:
    """The results of these items, which are added while the first is being written."""
    results: list[object] = [None] * len(items)

    async def one(place: int, written: Callable[[], Awaitable[str]]) -> None:
        try:
            results[place] = await written()
        except OSError as error:
            results[place] = str(error)

    async with anyio.create_task_group() as tasks:
        for place, item in enumerate(items):
            tasks.start_soon(one, place, batched.add(item))
            await to_thread.run_sync(disk.begun.wait)
        disk.free.set()
    return results


def test_records_that_arrive_during_a_write_are_batched() -> None:
    disk = Disk()
    results = anyio.run(write_all, Batched(disk), disk, range(10))
    assert disk.batches == [[0], [1, 2, 3, 4, 5, 6, 7, 8, 9]]
    assert results == [f"wrote {item}" for item in range(10)]


def test_a_failed_write_fails_all_of_it_and_not_the_next() -> None:
    disk = Disk()
    batched = Batched(disk)
    assert anyio.run(write_all, batched, disk, [1, 13, 2]) == [
        "wrote 1",
        "no space left",
        "no space left",
    ]
    assert anyio.run(write_all, batched, disk, [3]) == ["wrote 3"]


def test_a_write_that_is_no_longer_awaited_is_dropped() -> None:
    disk = Disk()
    batched = Batched(disk)

    async def one(item: int, scope: anyio.CancelScope) -> None:
        with scope:
            await batched.add(item)()

    async def go() -> None:
        scopes = [anyio.CancelScope() for _ in range(3)]
        async with anyio.create_task_group() as tasks:
            for item, scope in enumerate(scopes):
                tasks.start_soon(one, item, scope)
                await to_thread.run_sync(disk.begun.wait)
            scopes[0].cancel()  # is being written: the others must not notice
            scopes[1].cancel()  # waits
            await anyio.sleep(0.01)
            disk.free.set()

    anyio.run(go)
    assert disk.batches == [[0], [2]]


def test_submits_at_once_share_a_transaction(
    harness: Harness,
) -> None:
    harness.workspace.root.mkdir()
    with open_queue(harness.workspace) as queue:
        service = JobService(harness.workspace, queue, accept)
        service.submit("taken", spec("taken", "one"))
        asked = {
            "a": spec("a"),
            "taken": spec("taken", "two"),
            "b": spec("b"),
            "c": spec("c"),
        }
        prepared = [
            service.prepare({name: text}, True, Placing(after=("c",) if name == "c" else None))
            for name, text in asked.items()
        ]
        prepared[1] = replace(prepared[1], replace=False)
        outcomes = service.queue_all(prepared)
        assert [isinstance(each, Exception) for each in outcomes] == [False, True, False, True]
        assert queue.names() == ["taken", "a", "b"]
        assert queue.history("c") == []
        assert frozen_spec(harness.run("b")) == spec("b")


CHECKING = """
import os, sys, time
from pathlib import Path
from curation.workspace import Workspace
from distill.daemon.check_places import one_of_two
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
