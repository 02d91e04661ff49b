"""Which jobs start and in which order, as set by users: priority, order, labels, retry, drain."""

import json

import pytest
from test_daemon_commands import Ran

from distill.daemon import client
from distill.daemon.states import State
from distill.daemon.submitting import Answer
from tests.distill.daemon.harness import Harness, spec

WRITES_ORDER = """import pathlib, sys
run = pathlib.Path(sys.argv[1])
with (run.parent / "order.txt").open("a") as file:
    file.write(run.name + "\\n")
"""


def test_the_daemon_starts_by_priority_and_leaves_held_jobs(harness: Harness) -> None:
    harness.submit("first", WRITES_ORDER)
    harness.submit("kept", WRITES_ORDER, priority=1000, hold=True)
    harness.submit("urgent", WRITES_ORDER, priority=5)
    harness.submit("last", WRITES_ORDER, priority=-5)
    harness.start()
    harness.wait_for("last", State.DONE)
    assert harness.job("kept").state is State.QUEUED
    assert Ran(harness.workspace, "resume", "kept").stdout == "kept: queued\n"
    harness.wait_for("kept", State.DONE)
    order = (harness.workspace.runs / "order.txt").read_text().split()
    assert order == ["urgent", "first", "last", "kept"]


def test_a_held_job_says_how_it_is_resumed(harness: Harness) -> None:
    harness.submit("a")
    harness.submit("b")
    assert Ran(harness.workspace, "pause", "a", "b", "a").stdout == "a: paused\nb: paused\n"
    assert "a: held: `distill resume a`\n" in Ran(harness.workspace, "status").stdout
    (told,) = json.loads(Ran(harness.workspace, "resume", "b", "--json").stdout)
    assert (told["name"], told["held"]) == ("b", False)
    told = json.loads(Ran(harness.workspace, "status", "a", "--json").stdout)
    assert told["waiting_for"] == "held: `distill resume a`"


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_all_are_paused_or_none(harness: Harness, verb: str) -> None:
    harness.submit("a", hold=verb == "resume")
    harness.submit("b")
    Ran(harness.workspace, "cancel", "b")
    before = harness.job("a")
    error = Ran(harness.workspace, verb, "a", "b").error
    assert f"job 'b' is cancelled, and {verb} is for queued or running jobs" in error
    assert "no job 'c'" in Ran(harness.workspace, verb, "a", "c").error
    assert "is not a job name" in Ran(harness.workspace, verb, "a", "../b").error
    assert harness.job("a") == before


@pytest.mark.parametrize("verb", ["pause", "resume", "retry"])
def test_an_empty_workspace_stays_empty(harness: Harness, verb: str) -> None:
    assert "no job" in Ran(harness.workspace, verb, "a").error
    assert not harness.workspace.root.exists()


def test_the_place_of_a_waiting_job_can_be_changed(harness: Harness) -> None:
    harness.submit("a")
    assert harness.submit("a", priority=7, label="x") is Answer.CHANGED
    assert harness.submit("a", priority=7, label="x") is Answer.ALREADY_QUEUED
    assert harness.submit("a", hold=True) is Answer.CHANGED
    job = harness.job("a")
    assert (job.priority, job.label, job.held) == (7, "x", True)


def test_the_place_of_a_job_that_ended_is_no_more(harness: Harness) -> None:
    harness.start()
    harness.submit("a")
    harness.wait_for("a", State.DONE)
    assert harness.submit("a", priority=7) is Answer.ALREADY_DONE
    assert harness.job("a").priority == 0


def test_status_shows_and_chooses_by_label_and_state(harness: Harness) -> None:
    harness.submit("a", label="sweep:1", priority=3)
    harness.submit("b", label="sweep:1")
    harness.submit("c")
    Ran(harness.workspace, "cancel", "b")

    def names(*options: str) -> list[str]:
        told = json.loads(Ran(harness.workspace, "status", "--json", *options).stdout)
        return [job["name"] for job in told]

    assert names("--label", "sweep:1") == ["b", "a"]
    assert names("--label", "sweep:1", "--state", "cancelled") == ["b"]
    assert names("--state", "queued") == ["c", "a"]
    assert names("--label", "none") == []
    shown = Ran(harness.workspace, "status").stdout
    assert "sweep:1" in shown
    assert "priority" in shown
    plain = Ran(harness.workspace, "status", "--state", "cancelled").stdout
    assert "priority" not in plain
    nothing = Ran(harness.workspace, "status", "--label", "none", "--state", "failed")
    assert nothing.stderr.startswith("no job is failed and has the label 'none'; ")
    assert "either the name" in Ran(harness.workspace, "status", "a", "--label", "sweep:1").error
    assert "is not a label" in Ran(harness.workspace, "status", "--label", "a b").error
    assert Ran(harness.workspace, "status", "--state", "lost").status == 2


def test_a_label_from_elsewhere_does_not_move_the_terminal(harness: Harness) -> None:
    from distill.daemon.opening import open_queue

    harness.submit("a")
    with open_queue(harness.workspace) as queue:
        queue._update("a", label="\x1b]0;title\x07")
    for command in (["status"], ["status", "a"], ["status", "--json"]):
        assert "\x1b" not in Ran(harness.workspace, *command).stdout


@pytest.mark.parametrize(
    ("option", "words"),
    [(["--priority", "2000"], "is between"), (["--label", "no good"], "is not a label")],
)
def test_a_place_that_is_none_is_refused(harness: Harness, option: list[str], words: str) -> None:
    path = harness.workspace.root.parent / "job.toml"
    path.write_text(spec("a"))
    assert words in Ran(harness.workspace, "submit", str(path), *option).error
    assert not harness.workspace.root.exists()


FAILS_AT_FIRST = """import pathlib, sys
mark = pathlib.Path(sys.argv[1]) / "tried"
if not mark.exists():
    mark.touch()
    sys.exit(3)
"""


def test_failed_and_cancelled_jobs_go_again_with_their_specs(harness: Harness) -> None:
    harness.submit("a", FAILS_AT_FIRST, label="x", priority=2)
    harness.submit("b", hold=True)
    harness.start()
    harness.wait_for("a", State.FAILED)
    Ran(harness.workspace, "cancel", "b")
    spec_before = harness.job("a").spec
    told = json.loads(Ran(harness.workspace, "retry", "a", "b", "--json").stdout)
    assert [job["name"] for job in told] == ["a", "b"]
    again = harness.wait_for("a", State.DONE)
    harness.wait_for("b", State.DONE)
    assert (again.attempt, again.spec, again.label) == (2, spec_before, "x")
    assert not harness.run("a").with_name("a.old-1").exists()


def test_only_failed_or_cancelled_jobs_are_retried(harness: Harness) -> None:
    harness.submit("a")
    harness.submit("b")
    Ran(harness.workspace, "cancel", "a")
    error = Ran(harness.workspace, "retry", "a", "b").error
    assert "job 'b' is queued, and retry is for failed or cancelled jobs" in error
    assert harness.job("a").state is State.CANCELLED
    assert Ran(harness.workspace, "retry", "a", "a").stdout == "a: queued again\n"
    harness.start()
    harness.wait_for("b", State.DONE)
    harness.wait_for("a", State.DONE)
    assert "is done" in Ran(harness.workspace, "retry", "a").error


def test_queued_jobs_are_moved(harness: Harness) -> None:
    for name in "abc":
        harness.submit(name, WRITES_ORDER)
    harness.submit("urgent", WRITES_ORDER, priority=2)
    assert Ran(harness.workspace, "move", "c", "--first").stdout == "c: moved first\n"
    assert Ran(harness.workspace, "move", "a", "--last").stdout == "a: moved last\n"
    told = json.loads(Ran(harness.workspace, "move", "b", "--before", "c", "--json").stdout)
    assert [job["name"] for job in told] == ["b"]
    harness.start()
    harness.wait_for("a", State.DONE)
    order = (harness.workspace.runs / "order.txt").read_text().split()
    assert order == ["urgent", "b", "c", "a"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a"], "choose where to move a: --first, --last, or --before OTHER"),
        (["a", "--first", "--last"], "choose where to move a"),
        (["a", "--before", "urgent"], "jobs are moved within one priority"),
        (["a", "--before", "x"], "no job 'x'"),
        (["a", "--before", "ended"], "job 'ended' is cancelled, and move is for queued jobs"),
        (["ended", "--last"], "job 'ended' is cancelled, and move is for queued jobs"),
    ],
)
def test_a_move_to_nowhere_is_refused(harness: Harness, words: list[str], said: str) -> None:
    harness.submit("a")
    harness.submit("urgent", priority=2)
    harness.submit("ended")
    Ran(harness.workspace, "cancel", "ended")
    before = client.jobs(harness.workspace)
    assert said in Ran(harness.workspace, "move", *words).error
    assert client.jobs(harness.workspace) == before


def test_a_drain_lets_what_runs_end_and_outlives_the_daemon(harness: Harness) -> None:
    harness.start(slots=2)
    wait_for_go = "import pathlib, sys, time\nrun = pathlib.Path(sys.argv[1])\n"
    wait_for_go += "while not (run / 'go').exists(): time.sleep(0.01)"
    harness.submit("on", wait_for_go)
    harness.wait_for("on", State.RUNNING)
    told = Ran(harness.workspace, "drain").stdout
    assert told == "no job starts before `distill undrain`; 1 running\n"
    harness.submit("next")
    harness.kill()
    harness.start(slots=2)
    (harness.run("on") / "go").touch()
    harness.wait_for("on", State.DONE)
    health = client.health(harness.workspace)
    assert health is not None
    assert health["drained"] is True
    assert harness.job("next").state is State.QUEUED
    shown = Ran(harness.workspace, "status")
    assert "next: waits for the end of the drain: `distill undrain`\n" in shown.stdout
    assert "drained since 2" in shown.stderr
    since = client.drained_since(harness.workspace)
    assert json.loads(Ran(harness.workspace, "drain", "--json").stdout) == {
        "drained": True,
        "running": [],
    }
    assert client.drained_since(harness.workspace) == since
    assert Ran(harness.workspace, "undrain").stdout == "jobs can start again\n"
    harness.wait_for("next", State.DONE)
    assert "drained" not in Ran(harness.workspace, "status").stderr


def test_a_drain_needs_no_daemon_and_no_job(harness: Harness) -> None:
    assert json.loads(Ran(harness.workspace, "undrain", "--json").stdout) == {"drained": False}
    assert Ran(harness.workspace, "drain").status == 0
    harness.submit("a")
    harness.start()
    assert harness.job("a").state is State.QUEUED
    assert Ran(harness.workspace, "cancel", "a").stdout == "a: cancelled\n"
