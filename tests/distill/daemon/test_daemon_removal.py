"""Removing jobs: what is removed with them, what stays, and what prevents it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from daemon_under_test import accept
from test_daemon_commands import Ran

from curation.errors import UserError
from curation.locks import held
from curation.workspace import Workspace
from distill.daemon.opening import open_queue
from distill.daemon.outcome import Outcome
from distill.daemon.placing import Placing
from distill.daemon.refusals import ConflictError, UnknownJobError
from distill.daemon.removal import remove
from distill.daemon.runfolder import locked
from distill.daemon.service import JobService
from distill.daemon.states import Event, State
from distill.pipeline.steps import StepStore
from tests.distill.daemon.harness import Harness, make_odd, spec

OUTCOMES = {
    State.DONE: Outcome(event=Event.SUCCEED),
    State.FAILED: Outcome(event=Event.FAIL, reason="no"),
    State.CANCELLED: Outcome(event=Event.CANCEL),
}


class Place:
    """A queue with jobs that never run, and the files they would leave."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.queue = open_queue(workspace)
        self.service = JobService(workspace, self.queue, accept)

    def job(self, name: str, state: State = State.DONE, steps: str = "", **placing: object) -> Path:
        """A job with steps, one per letter, of which the last is its bundle; its run folder."""
        self.service.submit(name, spec(name), placing=Placing(**placing))  # type: ignore[arg-type]
        if state is not State.QUEUED:
            (job,) = [self.queue.claim(1.0)]
            assert job is not None
            assert job.name == name
            if state is not State.RUNNING:
                self.queue.settle(name, job.attempt, lambda cancelled: OUTCOMES[state], 2.0)
        run = self.workspace.runs / name
        self.leave(run, steps)
        return run

    def leave(self, run: Path, steps: str) -> None:
        (run / "checkpoints").mkdir(parents=True)
        (run / "log.txt").write_text("log" * 5000)
        for letter in steps:
            (self.step(letter) / "bundle").mkdir(parents=True, exist_ok=True)
            (self.step(letter) / "weights").write_bytes(bytes(1 << 16))
            (self.step(letter) / "lock").touch()
            self.link(run / "checkpoints" / letter, self.step(letter))
        if steps:
            listed = [
                {"name": x, "kind": "k", "state": "done", "id": self.step(x).name} for x in steps
            ]
            (run / "steps.json").write_text(json.dumps(listed))
            self.link(run / "bundle", self.step(steps[-1]) / "bundle")

    @staticmethod
    def link(path: Path, target: Path) -> None:
        path.symlink_to(os.path.relpath(target, path.parent))

    def step(self, letter: str) -> Path:
        return self.workspace.steps / f"distil-{letter * 16}"

    def steps(self) -> str:
        return "".join(sorted(path.name[-1] for path in self.workspace.steps.iterdir()))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(Workspace(tmp_path / "workspace"))


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.CANCELLED, State.QUEUED])
def test_a_job_goes_with_its_folder_and_history(place: Place, state: State) -> None:
    run = place.job("a", state)
    place.job("kept", State.QUEUED)
    removed = remove(place.workspace, place.queue, ["a"])
    assert (removed.jobs, removed.bundles_kept, removed.steps) == (("a",), (), 0)
    assert removed.bytes > 15_000
    assert place.queue.names() == ["kept"]
    assert place.queue.history("a") == []
    assert sorted(path.name for path in place.workspace.runs.iterdir()) == ["kept"]
    assert not run.exists()
    again = place.service.submit("a", spec("a", "another")).job
    assert (again.state, again.attempt) == (State.QUEUED, 0)


def test_steps_of_jobs_that_stay_are_kept(place: Place) -> None:
    place.job("a", steps="abcd")
    place.job("b", State.FAILED, steps="bc")
    (place.workspace.runs / "b" / "steps.json").unlink()  # as at the start of its next attempt
    place.leave(place.workspace.runs / "by-hand.old-1", "d")
    removed = remove(place.workspace, place.queue, ["a"], bundles=True)
    assert removed.steps == 1
    assert place.steps() == "bcd"
    assert remove(place.workspace, place.queue, ["b", "by-hand.old-1"], bundles=True).steps == 3
    assert place.steps() == ""
    assert list(place.workspace.runs.iterdir()) == []


def test_a_bundle_stays_where_its_job_had_it(place: Place) -> None:
    run = place.job("a", steps="ab")
    removed = remove(place.workspace, place.queue, ["a"])
    assert (removed.bundles_kept, removed.steps) == (("a",), 1)
    assert sorted(path.name for path in run.iterdir()) == ["bundle", "spec.toml"]
    assert (run / "bundle").is_dir()
    assert place.queue.names() == []
    assert remove(place.workspace, place.queue, ["a"], bundles=True).steps == 1
    assert not run.exists()
    assert place.steps() == ""


def test_a_dry_run_reports_and_removes_nothing(place: Place) -> None:
    run = place.job("a", steps="ab")
    told = remove(place.workspace, place.queue, ["a"], bundles=True, dry=True)
    assert (told.steps, place.queue.names()) == (2, ["a"])
    assert told.bytes >= 2 << 16
    assert (run / "log.txt").exists()
    assert told == remove(place.workspace, place.queue, ["a"], bundles=True)


@pytest.mark.parametrize(
    ("state", "names", "error", "words"),
    [
        (State.RUNNING, "a x", ConflictError, "is running; `distill cancel x` first"),
        (State.DONE, "a x y", UnknownJobError, "no job 'y'"),
    ],
)
def test_either_all_jobs_are_removed_or_none(
    place: Place, state: State, names: str, error: type[UserError], words: str
) -> None:
    place.job("a", steps="a")
    place.job("x", state)
    with pytest.raises(error, match=words):
        remove(place.workspace, place.queue, names.split())
    assert place.queue.names() == ["a", "x"]
    assert place.steps() == "a"


def test_a_queued_job_that_has_run_must_be_cancelled_first(place: Place) -> None:
    place.job("a", State.RUNNING)
    lost = Outcome(event=Event.INTERRUPT, reason="lost")
    place.queue.settle("a", 1, lambda cancelled: lost, 2.0)
    with pytest.raises(ConflictError, match="queued again after it ran; `distill cancel a` first"):
        remove(place.workspace, place.queue, ["a"])
    place.queue.request_cancel("a", 3.0)
    remove(place.workspace, place.queue, ["a"])


def test_jobs_that_others_wait_for_stay(place: Place) -> None:
    place.job("teacher")
    place.job("student", State.QUEUED, after=("teacher",))
    with pytest.raises(ConflictError, match="job 'student' starts after 'teacher'"):
        remove(place.workspace, place.queue, ["teacher"])
    remove(place.workspace, place.queue, ["teacher", "student"])
    assert place.queue.names() == []


def test_a_folder_in_use_stays(place: Place) -> None:
    run = place.job("a")
    with locked(run), pytest.raises(ConflictError, match="in use"):
        remove(place.workspace, place.queue, ["a"])
    assert place.queue.names() == ["a"]


def test_a_step_that_is_being_done_stays(place: Place) -> None:
    place.job("a", steps="ab")
    with held(place.step("a") / "lock"):
        remove(place.workspace, place.queue, ["a"], bundles=True)
    assert place.steps() == "a"


def test_a_waiting_job_makes_a_removed_step_again(tmp_path: Path) -> None:
    store = StepStore(tmp_path)
    folder = store.folder("k", {})
    done = []

    def work(folder: Path) -> dict[str, object]:
        done.append((folder / "lock").stat().st_ino)
        return {}

    folder.mkdir()
    (folder / "lock").touch()
    before = (folder / "lock").stat().st_ino
    thread = threading.Thread(target=store.perform, args=("k", {}, work))
    with held(folder / "lock"):
        thread.start()
        thread.join(0.3)
        folder.rename(tmp_path / "gone")
    thread.join()
    assert (folder / "result.json").exists()
    assert before not in done
    assert len(done) == 1


@pytest.mark.parametrize("kind", ["folder", "pipe", "large", "loop", "zero"])
def test_if_a_jobs_files_are_unknown_nothing_is_removed(place: Place, kind: str) -> None:
    place.job("a", steps="a")
    odd = place.job("odd")
    make_odd(odd / "steps.json", kind)
    with pytest.raises(UserError, match=r"the steps that 'odd' uses are unknown \("):
        remove(place.workspace, place.queue, ["a"], bundles=True)
    assert place.queue.names() == ["a", "odd"]
    assert place.steps() == "a"


def test_links_that_lead_elsewhere_are_not_followed(place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").touch()
    run = place.job("a", State.FAILED, steps="a")
    for link in (run / "checkpoints" / "x", run / "link", place.step("a") / "link"):
        link.symlink_to(outside)
    place.link(run / "checkpoints" / "y", place.workspace.steps)
    (run / "steps.json").write_text('[{"name": "x", "state": "done", "id": "../../outside"}]')
    remove(place.workspace, place.queue, ["a"], bundles=True)
    assert (outside / "mine").exists()
    assert place.workspace.steps.is_dir()


def test_leftovers_of_a_killed_removal_go_with_the_next(place: Place) -> None:
    for folder in (place.workspace.runs, place.workspace.steps):
        (folder / ".removed-x" / "deep").mkdir(parents=True)
    place.job("a")
    remove(place.workspace, place.queue, ["a"])
    assert list(place.workspace.runs.iterdir()) == list(place.workspace.steps.iterdir()) == []


KILLED_WHILE_REMOVING = """
import sys
from pathlib import Path
from curation.workspace import Workspace
from distill.daemon.removal import remove
from distill.daemon.opening import open_queue
place = Workspace(Path(sys.argv[1]))
with open_queue(place) as queue:
    print("begun", flush=True)
    remove(place, queue, queue.names(), bundles=True)
"""


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05, 0.1])
def test_a_killed_removal_is_finished_by_the_next(place: Place, seconds: float) -> None:
    for number in range(60):
        place.job(f"job-{number}", steps="abcdef")
    command = [sys.executable, "-c", KILLED_WHILE_REMOVING, str(place.workspace.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    names = {run.name for run in place.workspace.runs.glob("[!.]*")} | set(place.queue.names())
    place.job("one-more")
    remove(place.workspace, place.queue, {*names, "one-more"}, bundles=True)
    assert place.queue.names() == []
    assert place.steps() == ""


def test_a_user_removes_and_sees_what_that_frees(harness: Harness) -> None:
    harness.submit("a")
    harness.submit("b")
    dry = Ran(harness.workspace, "remove", "a", "b", "--dry-run")
    assert dry.stdout == "a: would be removed\nb: would be removed\n"
    assert "would free " in dry.stderr
    told = json.loads(Ran(harness.workspace, "remove", "a", "--json").stdout)
    assert (told["jobs"], told["dry_run"], told["steps"]) == (["a"], False, 0)
    harness.start()
    harness.wait_for("b", State.DONE)
    assert Ran(harness.workspace, "remove", "b").stdout == "b: removed\n"
    assert "no job 'b'" in Ran(harness.workspace, "remove", "b").error
    assert "is not a job name" in Ran(harness.workspace, "remove", "../daemon").error


def test_an_empty_workspace_stays_empty(harness: Harness) -> None:
    assert "no job" in Ran(harness.workspace, "remove", "a").error
    assert not harness.workspace.root.exists()


def test_a_lost_queue_is_not_started_again(harness: Harness) -> None:
    harness.start()
    harness.submit("a")
    harness.wait_for("a", State.DONE)
    harness.kill()
    (harness.workspace.daemon / "queue.sqlite").unlink()
    assert "is missing" in Ran(harness.workspace, "remove", "a").error
    assert harness.run("a").exists()


def test_many_jobs_go_in_seconds(place: Place) -> None:
    with place.queue.exclusive():
        for number in range(3000):
            place.queue.submit(f"job-{number}", "spec", 0.0)
    assert len(remove(place.workspace, place.queue, place.queue.names()).jobs) == 3000
    assert place.queue.names() == []
