"""Pausing and cancelling what runs: real daemons, real jobs, with and without a daemon."""

import json
import threading
import time
from contextlib import suppress

import pytest
from test_daemon_commands import Ran

from curation.errors import UserError
from distill.daemon import client, stopping
from distill.daemon.states import Event, State
from tests.distill.daemon.harness import Harness, wait_until

# It counts while it runs, writes the count when asked to stop, and continues from there.
COUNTS = """
import pathlib, signal, sys, time
run = pathlib.Path(sys.argv[1])
checkpoint = run / "checkpoint"
count = int(checkpoint.read_text()) if checkpoint.exists() else 0
def stop(number, frame):
    checkpoint.write_text(str(count))
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
while not (run / "go").exists():
    count += 1
    (run / "at-work").write_text(str(count))
    time.sleep(0.01)
"""
DEAF = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
(pathlib.Path(sys.argv[1]) / "at-work").write_text("1")
time.sleep(100)
"""


def test_a_paused_job_frees_its_slot_and_continues_when_resumed(harness: Harness) -> None:
    harness.start()
    harness.submit("a", COUNTS, priority=3, label="x")
    harness.submit("b")
    harness.wait_for_file("a", "at-work")
    before = harness.job("a")
    assert Ran(harness.workspace, "pause", "a").stdout == "a: paused\n"
    assert int((harness.run("a") / "checkpoint").read_text()) > 0
    harness.wait_for("b", State.DONE)
    job = harness.job("a")
    assert (job.state, job.held, job.interruptions) == (State.QUEUED, True, 0)
    assert (job.priority, job.label, job.position) == (3, "x", before.position)
    assert "a: held: `distill resume a`\n" in Ran(harness.workspace, "status").stdout
    (harness.run("a") / "go").touch()
    assert Ran(harness.workspace, "resume", "a").stdout == "a: queued\n"
    assert harness.wait_for("a", State.DONE).attempt == 2
    assert [line.event for line in client.history(harness.workspace, "a")] == [
        Event.SUBMIT,
        Event.START,
        Event.PAUSE,
        Event.RESUME,
        Event.START,
        Event.SUCCEED,
    ]


def test_queued_and_running_jobs_are_paused_together_and_twice(harness: Harness) -> None:
    harness.start()
    harness.submit("a", COUNTS)
    harness.submit("b")
    harness.wait_for_file("a", "at-work")
    for _ in range(2):
        told = json.loads(Ran(harness.workspace, "pause", "a", "b", "--json").stdout)
        assert [(job["name"], job["state"], job["held"]) for job in told] == [
            ("a", "queued", True),
            ("b", "queued", True),
        ]


@pytest.mark.parametrize("daemon", [True, False])
def test_a_job_that_does_not_listen_is_killed_and_paused(harness: Harness, daemon: bool) -> None:
    harness.start(grace=0.3)
    harness.submit("a", DEAF)
    harness.wait_for_file("a", "at-work")
    if not daemon:
        harness.kill()
    (job,) = stopping.pause(harness.workspace, ["a"])
    assert (job.state, job.held, job.interruptions) == (State.QUEUED, True, 0)


def test_a_killed_daemon_forgets_no_pause(harness: Harness) -> None:
    harness.start(grace=0.5)
    harness.submit("a", DEAF)
    harness.wait_for_file("a", "at-work")

    def pause() -> None:
        with suppress(UserError):  # the daemon is killed during the request
            stopping.pause(harness.workspace, ["a"])

    pausing = threading.Thread(target=pause)
    pausing.start()
    wait_until(lambda: harness.job("a").pause_requested_at is not None)
    harness.kill()
    harness.start()
    job = harness.wait_for("a", State.QUEUED)
    pausing.join()
    assert (job.state, job.held, job.interruptions) == (State.QUEUED, True, 0)


def test_a_job_resumed_while_it_stops_starts_again(harness: Harness) -> None:
    harness.start(grace=1.5)
    harness.submit("a", DEAF)
    harness.wait_for_file("a", "at-work")
    pausing = threading.Thread(target=stopping.pause, args=(harness.workspace, ["a"]))
    pausing.start()
    wait_until(lambda: harness.job("a").pause_requested_at is not None)
    assert "a: is being paused\n" in Ran(harness.workspace, "status").stdout
    assert Ran(harness.workspace, "resume", "a").stdout == "a: running\n"
    pausing.join()
    wait_until(lambda: harness.job("a").attempt == 2, "it starts again")
    job = harness.job("a")
    assert (job.state, job.held, job.interruptions) == (State.RUNNING, False, 0)
    assert Ran(harness.workspace, "resume", "a").stdout == "a: running\n"


def test_a_job_being_cancelled_cannot_be_paused(harness: Harness) -> None:
    harness.start(grace=1.5)
    harness.submit("a", DEAF)
    harness.wait_for_file("a", "at-work")
    cancelling = threading.Thread(target=stopping.cancel, args=(harness.workspace, ["a"]))
    cancelling.start()
    wait_until(lambda: harness.job("a").cancel_requested_at is not None)
    error = Ran(harness.workspace, "pause", "a").error
    assert "'a' is being cancelled, and cannot be paused" in error
    cancelling.join()
    assert harness.job("a").state is State.CANCELLED


@pytest.mark.parametrize("daemon", [True, False])
def test_a_forced_cancel_waits_for_no_checkpoint(harness: Harness, daemon: bool) -> None:
    harness.start(grace=30.0)
    harness.submit("a", DEAF)
    harness.wait_for_file("a", "at-work")
    if not daemon:
        harness.kill()
    began = time.monotonic()
    assert Ran(harness.workspace, "cancel", "a", "--force").stdout == "a: cancelled\n"
    assert time.monotonic() - began < 28


def test_jobs_are_cancelled_by_label_or_all(harness: Harness) -> None:
    for name, label in {"a": "x", "b": "x", "c": None, "d": "y"}.items():
        harness.submit(name, label=label)
    ran = Ran(harness.workspace, "cancel", "--label", "x")
    assert ran.stdout == "a: cancelled\nb: cancelled\n"
    nothing = Ran(harness.workspace, "cancel", "--label", "x")
    assert (nothing.stdout, nothing.status) == ("", 0)
    assert "no job is queued or running with the label 'x'" in nothing.stderr
    told = json.loads(Ran(harness.workspace, "cancel", "--all", "--json").stdout)
    assert [(job["name"], job["state"]) for job in told] == [("c", "cancelled"), ("d", "cancelled")]


def test_several_jobs_are_cancelled_or_none(harness: Harness) -> None:
    harness.submit("a")
    harness.submit("b")
    assert "no job 'c'" in Ran(harness.workspace, "cancel", "a", "c").error
    assert harness.job("a").state is State.QUEUED
    assert Ran(harness.workspace, "cancel", "a", "b", "a").stdout == "a: cancelled\nb: cancelled\n"
    assert json.loads(Ran(harness.workspace, "cancel", "a", "--json").stdout)["name"] == "a"


@pytest.mark.parametrize(
    "words", [[], ["a", "--all"], ["--all", "--label", "x"], ["a", "--label", "x"]]
)
def test_jobs_to_cancel_are_given_in_one_way(harness: Harness, words: list[str]) -> None:
    assert "name the jobs to cancel" in Ran(harness.workspace, "cancel", *words).error


def test_a_missing_label_cancels_nothing(harness: Harness) -> None:
    harness.submit("a")
    for label in ("", "a b"):
        assert "is not a label" in Ran(harness.workspace, "cancel", "--label", label).error
    assert harness.job("a").state is State.QUEUED


def test_cancelling_nothing_creates_nothing(harness: Harness) -> None:
    assert Ran(harness.workspace, "cancel", "--all").status == 0
    assert not harness.workspace.root.exists()
