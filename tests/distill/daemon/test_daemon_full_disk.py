"""A full disk: ended jobs stay ended, cancelling is possible, nothing runs twice."""

import errno
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_under_test import code_of
from small_disk import SmallDisk, disk

from curation.files import atomic_file, reserve, write_reserved
from distill.daemon import client, stopping
from distill.daemon.attempts import Attempt
from distill.daemon.executors.local import LocalExecutor
from distill.daemon.opening import open_queue
from distill.daemon.queue import Queue
from distill.daemon.runfolder import in_use, read_exit_record
from distill.daemon.scheduler import Scheduler
from distill.daemon.states import State
from distill.daemon.troubles import FIRST_PAUSE, LONGEST_PAUSE, Troubles
from distill.pipeline.record import RunRecord, write_failure
from tests.distill.daemon.harness import Harness, wait_until

__all__ = ["disk"]

# Fills the disk, and counts how often it was started.
FILLS = """
import pathlib, sys, time
run = pathlib.Path(sys.argv[1])
with open(run / "starts", "a") as starts:
    starts.write("x")
def fill(times):
    file = open(run.parent.parent / ("fill-" + run.name), "ab", 0)
    while times:
        try:
            file.write(b"x" * 4096)
        except OSError:
            times -= 1
            time.sleep(0.001)
"""
UNRESERVED = "\n(run / '.exit.json.reserved').unlink()\n"


def wait_for_words(harness: Harness, words: str) -> None:
    harness.wait_for_file("a", "starts")
    log = harness.run("a") / "log.txt"
    wait_until(lambda: words in log.read_text(), words)


@pytest.fixture
def harness(disk: SmallDisk) -> Iterator[Harness]:
    made = Harness(disk.place / "workspace")
    yield made
    made.clean_up()


def starts(harness: Harness, name: str) -> int:
    return len((harness.run(name) / "starts").read_text())


def test_reserved_space_is_available_on_a_full_disk(disk: SmallDisk) -> None:
    path = disk.place / "record.json"
    reserve(path, 4096)
    disk.fill()
    assert not path.exists()
    with pytest.raises(OSError, match="No space"), atomic_file(path) as file:
        file.write(b"{}")
    write_reserved(path, b"x" * 4000)
    assert path.read_bytes() == b"x" * 4000
    assert [each.name for each in disk.place.iterdir() if each.name.startswith(".")] == []
    with pytest.raises(OSError, match="No space"):
        write_reserved(path, b"y" * 4096)
    assert path.read_bytes() == b"x" * 4000


@pytest.mark.parametrize("size", [0, 100, 4096, 5000])
def test_a_reserved_file_has_just_what_was_written(tmp_path: Path, size: int) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(b"old")
    reserve(path, 4096)
    assert path.read_bytes() == b"old"
    write_reserved(path, b"x" * size)
    assert path.read_bytes() == b"x" * size
    assert list(tmp_path.iterdir()) == [path]
    write_reserved(path, b"again")  # without a reservation
    assert path.read_bytes() == b"again"


def test_a_job_that_ends_on_a_full_disk_is_not_run_again(disk: SmallDisk, harness: Harness) -> None:
    harness.start()
    harness.submit("a", FILLS + "fill(3)")
    job = harness.wait_for("a", State.DONE)
    assert (job.attempt, job.exit_status, starts(harness, "a")) == (1, 0, 1)
    harness.submit("b")
    shown = client.find_report(harness.workspace, "b")
    assert shown.waiting_for == f"space on the disk of {harness.workspace.runs}: free some"
    (harness.workspace.root / "fill-a").unlink()
    harness.wait_for("b", State.DONE)


def test_jobs_that_fill_the_disk_all_the_time_are_cancelled(
    disk: SmallDisk, harness: Harness
) -> None:
    harness.start(slots=2)
    for name in ("a", "b"):
        waits = "while not (run / 'go').exists():\n    time.sleep(0.01)\n"
        harness.submit(name, FILLS + waits + "fill(-1)")
        harness.wait_for_file(name, "starts")
    for name in ("a", "b"):
        (harness.run(name) / "go").touch()
    wait_until(lambda: disk.free() == 0)
    for name in ("a", "b"):
        assert stopping.cancel(harness.workspace, [name])[0].state is State.CANCELLED


def test_a_runner_holds_the_folder_until_the_end_is_recorded(
    disk: SmallDisk, harness: Harness
) -> None:
    harness.start()
    harness.submit("a", FILLS + UNRESERVED + "fill(3)")
    wait_for_words(harness, "its end cannot be recorded")
    time.sleep(0.5)
    assert harness.job("a").state is State.RUNNING
    assert in_use(harness.run("a"))
    (harness.workspace.root / "fill-a").unlink()
    assert harness.wait_for("a", State.DONE).attempt == 1
    assert starts(harness, "a") == 1


def test_a_cancel_does_not_wait_for_an_unrecorded_end(disk: SmallDisk, harness: Harness) -> None:
    harness.start()
    harness.submit("a", FILLS + UNRESERVED + "fill(3)")
    wait_for_words(harness, "its end cannot be recorded")
    began = time.monotonic()
    assert stopping.cancel(harness.workspace, ["a"])[0].state is State.CANCELLED
    assert time.monotonic() - began < 40
    assert starts(harness, "a") == 1


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_job_without_room_to_start_starts_later(
    disk: SmallDisk, harness: Harness, cancelled: bool
) -> None:
    harness.submit("a", FILLS)
    with open_queue(harness.workspace) as queue:
        executor = LocalExecutor(code_of, 1.0)
        scheduler = Scheduler(queue, executor, harness.workspace.runs)
        queue.keep_room()
        queue.claim(1.0)
        disk.fill()
        scheduler.step()
        job = queue.job("a")
        assert job is not None
        with pytest.raises(OSError, match="is full"):
            scheduler._start(job)
        assert queue.job("a") == job
        if cancelled:
            queue.request_cancel("a", 2.0)
            # The runner that found no room may still be ending.
            wait_until(lambda: scheduler.step() or harness.job("a").state is State.CANCELLED)
        else:
            disk.make_room()
            wait_until(lambda: scheduler.step() or harness.job("a").state is State.DONE)
            assert starts(harness, "a") == 1


def test_the_queue_has_its_own_reserved_space(disk: SmallDisk) -> None:
    with Queue(disk.place / "queue.sqlite") as queue:
        for number in range(40):
            queue.submit(f"job-{number}", "spec", 0.0)
        queue.keep_room()
        disk.fill()
        for number in range(40):
            assert queue.request_cancel(f"job-{number}", 1.0).state is State.CANCELLED
        disk.make_room()
    with Queue(queue.path) as again:
        assert again.counts()[State.CANCELLED] == 40


def test_a_job_says_on_a_full_disk_why_it_failed(disk: SmallDisk) -> None:
    run = disk.place / "run"
    record = RunRecord(run)
    reserve(run / "failure.json", 4096)
    disk.fill()
    write_failure(record.folder, OSError(errno.ENOSPC, "No space left on device", "/data/x"))
    assert "No space left" in json.loads((run / "failure.json").read_text())["reason"]
    write_failure(record.folder, ValueError("no room for this one"))
    assert "No space left" in json.loads((run / "failure.json").read_text())["reason"]
    assert read_exit_record(Attempt(run, 1)) is None


def test_the_same_trouble_is_reported_less_and_less_often() -> None:
    said: list[str] = []
    now = 0.0
    troubles = Troubles(said.append, lambda: now)
    for tick in range(4 * 3600):
        now = tick / 4
        troubles.met("disk", "cannot write")
    assert said[:3] == [
        "cannot write",
        "cannot write (5 times in 1 s)",
        "cannot write (13 times in 3 s)",
    ]
    assert len(said) == 12  # in an hour, instead of 14,400
    assert FIRST_PAUSE < LONGEST_PAUSE
    troubles.met("another", "cannot read")
    assert said[-1] == "cannot read"
    troubles.over("disk", "writes again")
    troubles.over("disk", "writes again")
    assert said[-1] == "writes again (it failed 14400 times in 3600 s)"
    assert len(said) == 14
    troubles.met("disk", "cannot write")
    assert said[-1] == "cannot write"
