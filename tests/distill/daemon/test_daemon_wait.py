"""Waiting for jobs in a script: real daemons, exit statuses, Ctrl-C."""

import json
import signal
import subprocess
import sys
import threading
import time

import pytest
from test_daemon_commands import Ran

from distill.daemon import stopping
from distill.daemon.states import State
from tests.distill.daemon.harness import PATIENCE, Harness

LONG = "import time; time.sleep(100)"


def waiting(harness: Harness, *arguments: str) -> subprocess.Popen[str]:
    """`distill wait` in a process of its own."""
    command = [sys.executable, "-u", "-m", "distill.cli.main", "wait", *arguments]
    return subprocess.Popen(
        [*command, "--workspace", str(harness.workspace.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_all_that_are_done_are_success(harness: Harness) -> None:
    harness.start(slots=2)
    harness.submit("slow", "import time; time.sleep(0.5)")
    harness.submit("quick")
    ran = Ran(harness.workspace, "wait", "slow", "quick", "slow")
    assert (ran.status, ran.stdout) == (0, "slow: done\nquick: done\n")
    told = json.loads(Ran(harness.workspace, "wait", "quick", "slow", "--json").stdout)
    assert [(job["name"], job["state"]) for job in told] == [("quick", "done"), ("slow", "done")]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_one_that_failed_or_was_cancelled_is_not_success(
    harness: Harness, options: list[str]
) -> None:
    harness.start()
    harness.submit("bad", "raise SystemExit(3)")
    harness.submit("good")
    harness.submit("kept", hold=True)
    ran = Ran(harness.workspace, "wait", "bad", "good", *options)
    assert ran.status == 1
    assert "good" in ran.stdout, "the others are waited for all the same"
    assert "status 3" in ran.stdout
    harness.wait_for("good", State.DONE)
    with waiting(harness, "good", "kept", *options) as process:
        assert process.stderr is not None
        assert "kept: held: `distill resume kept`" in process.stderr.readline()
        stopping.cancel(harness.workspace, ["kept"])
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 1


def test_without_a_daemon_it_does_not_hang(harness: Harness) -> None:
    harness.submit("a")
    assert "no daemon is running" in Ran(harness.workspace, "wait", "a").error
    Ran(harness.workspace, "cancel", "a")
    assert Ran(harness.workspace, "wait", "a").stdout == "a: cancelled: cancelled by the user\n"


UNTIL_TOLD = """import pathlib, sys, time
run = pathlib.Path(sys.argv[1])
(run / "begun").write_text("yes")
while not (run / "go").exists():
    time.sleep(0.01)
"""


def test_a_job_that_runs_on_without_a_daemon_is_waited_for(harness: Harness) -> None:
    harness.start()
    harness.submit("a", UNTIL_TOLD)
    harness.wait_for_file("a", "begun")
    harness.kill()

    def come_back() -> None:
        time.sleep(0.5)
        harness.start()
        (harness.run("a") / "go").touch()

    coming = threading.Thread(target=come_back)
    coming.start()
    assert Ran(harness.workspace, "wait", "a").status == 0
    coming.join()


@pytest.mark.parametrize("seconds", ["0", "1"])
def test_the_time_to_wait_is_bounded(harness: Harness, seconds: str) -> None:
    harness.start()
    harness.submit("a", LONG)
    harness.wait_for("a", State.RUNNING)
    began = time.monotonic()
    ran = Ran(harness.workspace, "wait", "a", "--timeout", seconds)
    assert time.monotonic() - began >= int(seconds)
    assert (ran.status, ran.stdout) == (124, "")
    assert ran.stderr == f"error: job 'a' is still running after {seconds} s\n"
    assert harness.job("a").state is State.RUNNING


def test_nothing_is_waited_for_if_a_job_is_unknown(harness: Harness) -> None:
    harness.start()
    harness.submit("a", LONG)
    assert "no job 'b'" in Ran(harness.workspace, "wait", "a", "b").error
    assert Ran(harness.workspace, "wait", "a", "--timeout", "-1").status == 2


def test_ctrl_c_ends_the_waiting_and_not_the_jobs(harness: Harness) -> None:
    harness.start(slots=2)
    harness.submit("quick")
    harness.submit("a", LONG)
    harness.submit("b", LONG)
    with waiting(harness, "quick", "a", "b") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "quick: done\n"  # it waits now
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said == (
        "a, b continue; wait again with `distill wait a b`, end one with `distill cancel a`\n"
    )
    assert harness.job("a").state is State.RUNNING
