"""The history of a job, and the differences between two jobs, as a user asks for them."""

import json

import pytest
from daemon_under_test import accept
from test_daemon_commands import Ran

from distill.daemon import client
from distill.daemon.opening import open_queue
from distill.daemon.runfolder import freeze_spec
from distill.daemon.states import State
from tests.distill.daemon.harness import Harness

FAILS_ONCE = """import os, pathlib, signal, sys
mark = pathlib.Path(sys.argv[1]) / "mark"
if not mark.exists():
    mark.touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_history_tells_every_attempt_and_why_it_ended(harness: Harness) -> None:
    harness.submit("a", FAILS_ONCE, hold=True)
    Ran(harness.workspace, "resume", "a")
    harness.start()
    harness.wait_for("a", State.DONE)
    told = json.loads(Ran(harness.workspace, "history", "a", "--json").stdout)
    assert [(line["event"], line["state"], line["attempt"]) for line in told] == [
        ("submit", "queued", 0),
        ("resume", "queued", 0),
        ("start", "running", 1),
        ("interrupt", "queued", 1),
        ("start", "running", 2),
        ("succeed", "done", 2),
    ]
    assert "KILL" in told[3]["reason"]
    assert told[0]["reason"] is None
    assert all(line["at"].endswith("+00:00") for line in told)
    shown = Ran(harness.workspace, "history", "a").stdout.splitlines()
    assert shown[0].split() == ["at", "attempt", "event", "state", "reason"]
    assert len(shown) == 2 + len(told)


def test_a_damaged_history_is_refused_in_one_line(harness: Harness) -> None:
    harness.submit("a")
    with open_queue(harness.workspace) as queue:
        queue._connection.execute("UPDATE transitions SET event = 'x' || char(27)")
    error = Ran(harness.workspace, "history", "a").error
    assert "queue.sqlite is damaged" in error


def test_a_queue_without_one_of_its_tables_is_one_line(harness: Harness) -> None:
    harness.submit("a")
    with open_queue(harness.workspace) as queue:
        queue._connection.execute("DROP TABLE transitions")
    assert "is damaged (no such table: transitions)" in Ran(harness.workspace, "history", "a").error


@pytest.mark.parametrize("moment", [1e300, -1e300, 1e15, -1e12])
def test_times_that_no_calendar_has_are_reported_as_its_ends(
    harness: Harness, moment: float
) -> None:
    harness.submit("a")
    with open_queue(harness.workspace) as queue:
        queue._connection.execute("UPDATE jobs SET submitted_at = ?", (moment,))
        queue._connection.execute("UPDATE transitions SET at = ?", (moment,))
    end = "9999-12-31T23:59:59+00:00" if moment > 0 else "0001-01-01T00:00:00+00:00"
    assert json.loads(Ran(harness.workspace, "status", "--json").stdout)[0]["submitted_at"] == end
    assert json.loads(Ran(harness.workspace, "history", "a", "--json").stdout)[0]["at"] == end


def submit(harness: Harness, name: str, text: str) -> None:
    client.submit(harness.workspace, name, f"name = '{name}'\n{text}", True, accept)


def test_diff_shows_the_differences(harness: Harness) -> None:
    submit(harness, "a", "seed = 1\nwhen = 2026-01-02\n[student]\nwidth = 0.5")
    submit(harness, "b", "seed = 1\nwhen = 2026-01-03\n[student]\nwidth = 1.0\nname = 'x'")
    told = json.loads(Ran(harness.workspace, "diff", "a", "b", "--json").stdout)
    assert told == {
        "first": "a",
        "second": "b",
        "differences": [
            {"key": "when", "first": "2026-01-02", "second": "2026-01-03"},
            {"key": "student.width", "first": 0.5, "second": 1.0},
            {"key": "student.name", "second": "x"},
        ],
    }
    rows = [line.split() for line in Ran(harness.workspace, "diff", "a", "b").stdout.splitlines()]
    assert rows[0] == ["key", "a", "b"]
    assert ["student.width", "0.5", "1.0"] in rows
    assert ["student.name", "-", '"x"'] in rows


def test_diff_of_equal_specs_says_so(harness: Harness) -> None:
    submit(harness, "a", "seed = 1")
    submit(harness, "b", "seed = 1 # as well")
    assert Ran(harness.workspace, "diff", "a", "b").stdout == "the specs of a and b are equal\n"
    assert (
        json.loads(Ran(harness.workspace, "diff", "a", "a", "--json").stdout)["differences"] == []
    )


def test_diff_knows_runs_that_were_set_aside_and_by_hand(harness: Harness) -> None:
    submit(harness, "a", "seed = 1")
    submit(harness, "a", "seed = 2")
    freeze_spec(harness.run("hand"), "name = 'hand'\nseed = 3")
    assert '"seed"' in Ran(harness.workspace, "diff", "a", "a.old-1", "--json").stdout
    assert "3" in Ran(harness.workspace, "diff", "a", "hand").stdout
    assert "no job 'b'" in Ran(harness.workspace, "diff", "a", "b").error
    assert "is not a job name" in Ran(harness.workspace, "diff", "a", "../a").error


def test_diff_of_an_invalid_spec_is_one_line(harness: Harness) -> None:
    submit(harness, "a", "'\\u001b[31m' = 1")
    freeze_spec(harness.run("b"), "[[[")
    assert "the spec of b" in Ran(harness.workspace, "diff", "a", "b").error
    freeze_spec(harness.run("c"), "name = 'c'")
    assert "\x1b" not in Ran(harness.workspace, "diff", "a", "c").stdout
