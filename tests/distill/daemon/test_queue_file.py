"""The queue on disk: several threads, killed processes, damaged files."""

import os
import random
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from curation.errors import UserError
from distill.daemon.queue import Queue
from distill.daemon.schema import MIGRATIONS
from distill.daemon.states import Event
from tests.distill.daemon.outcomes import SUCCESS


@pytest.fixture
def queue(tmp_path: Path) -> "Queue":
    return Queue(tmp_path / "queue.sqlite")


def test_returned_rows_persist_after_reopening(queue: Queue) -> None:
    queue.submit("a", "spec", 0.0)
    queue.claim(1.0)
    done = queue.settle("a", 1, lambda cancelled: SUCCESS, 2.0)
    queue.close()
    with Queue(queue.path) as again:
        assert again.job("a") == done
        assert [line.event for line in again.history("a")] == [
            Event.SUBMIT,
            Event.START,
            Event.SUCCEED,
        ]


def test_threads_claim_every_job_exactly_once(queue: Queue) -> None:
    names = [f"job-{number}" for number in range(24)]
    for name in names:
        queue.submit(name, "spec", 0.0)
    claimed: list[str] = []

    def claim_all() -> None:
        with Queue(queue.path) as mine:
            while (job := mine.claim(1.0)) is not None:
                claimed.append(job.name)

    threads = [threading.Thread(target=claim_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(names)


def test_acknowledged_submits_survive_kill_9_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "queue.sqlite"
    Queue(path).close()
    dice = random.Random(5)
    acknowledged: set[str] = set()
    for number in range(40):
        acknowledged |= _submit_until_killed(path, number, after=dice.uniform(0.0, 0.06))
    with Queue(path) as queue:
        assert acknowledged <= {job.name for job in queue.jobs()}
        assert len(acknowledged) > 10


def _submit_until_killed(path: Path, number: int, after: float) -> set[str]:
    """A process that submits endlessly, killed after a while; returns what was acknowledged."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        queue = Queue(path)
        os.write(writer, b"begun\n")
        for count in range(10_000):
            queue.submit(f"job-{number}-{count}", "spec", 0.0)
            os.write(writer, f"job-{number}-{count}\n".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        pipe.readline()
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return {line.decode().strip() for line in pipe if line.endswith(b"\n")}


@pytest.mark.parametrize(
    "content",
    [b"not a database, but long enough to be one" * 100, b"SQLite format 3\0" + b"\xff" * 9000],
)
def test_a_damaged_queue_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "queue.sqlite"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged.*finished steps are reused"):
        Queue(path)
    assert path.read_bytes() == content


def test_a_damaged_page_is_found_at_opening(queue: Queue) -> None:
    for number in range(200):
        queue.submit(f"job-{number}", "spec" * 50, 0.0)
    queue.close()
    content = bytearray(queue.path.read_bytes())
    content[8192:12288] = b"\xaa" * 4096
    queue.path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="damaged"):
        Queue(queue.path)


def test_a_queue_of_a_newer_version_is_left_alone(queue: Queue) -> None:
    queue.close()
    connection = sqlite3.connect(queue.path)
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.close()
    with pytest.raises(UserError, match="newer software"):
        Queue(queue.path)


def test_a_folder_in_place_of_the_queue_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be used"):
        Queue(tmp_path)
