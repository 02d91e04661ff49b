"""Removing jobs that ended long ago: which are removed, and which must stay for other jobs."""

import json
import time
from pathlib import Path

import pytest
from test_daemon_commands import Ran
from test_daemon_removal import OUTCOMES, Place

from curation.errors import UserError
from curation.workspace import Workspace
from distill.daemon.cleaning import parse_age
from distill.daemon.placing import Placing
from distill.daemon.runfolder import locked
from distill.daemon.states import State
from tests.distill.daemon.harness import spec

DAY = 86400.0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(Workspace(tmp_path / "workspace"))


def ended(place: Place, name: str, days_ago: float, state: State = State.DONE, **more) -> Path:
    """A job that ended this long ago; ``more`` as in `Place.job`."""
    run = place.job(name, State.RUNNING, **more)
    at = time.time() - days_ago * DAY
    place.queue._update(name, submitted_at=at - 2, started_at=at - 1)
    place.queue.settle(name, place.queue.job(name).attempt, lambda _: OUTCOMES[state], at)
    return run


def clean(place: Place, *options: str) -> dict:
    ran = Ran(place.workspace, "clean", *options, "--json")
    assert ran.status == 0, ran.stderr
    return json.loads(ran.stdout)


def test_jobs_that_ended_long_ago_are_removed(place: Place) -> None:
    old = ended(place, "old", 31, steps="ab")
    new = ended(place, "new", 29, steps="b")
    place.job("queued", State.QUEUED)
    told = clean(place, "--older-than", "30d")
    assert (told["jobs"], told["bundles_kept"], told["steps"]) == (["old"], ["old"], 1)
    assert told["bytes"] > 1 << 16
    assert place.queue.names() == ["new", "queued"]
    assert (old / "bundle").is_dir()
    assert (new / "log.txt").exists()
    assert place.steps() == "b"


def test_a_clock_that_was_set_back_makes_no_job_old(place: Place) -> None:
    ended(place, "set-back", 20_000)
    place.queue._update("set-back", submitted_at=time.time())
    assert clean(place, "--older-than", "30d")["jobs"] == []


def test_a_bundle_is_removed_on_request_and_used_steps_stay(place: Place) -> None:
    old = ended(place, "old", 31, steps="ab")
    ended(place, "new", 1, steps="b")
    told = clean(place, "--older-than", "30d", "--bundles")
    assert (told["bundles_kept"], told["steps"]) == ([], 1)
    assert not old.exists()
    assert place.steps() == "b"


def test_only_jobs_of_the_given_state_or_label_are_removed(place: Place) -> None:
    ended(place, "a", 9, State.FAILED, label="sweep")
    ended(place, "b", 9, State.DONE, label="sweep")
    ended(place, "c", 9, State.FAILED)
    options = ("--older-than", "1w", "--label", "sweep", "--state", "failed")
    assert clean(place, *options, "--dry-run")["jobs"] == ["a"]
    assert place.queue.names() == ["a", "b", "c"]
    assert clean(place, *options)["jobs"] == ["a"]
    assert clean(place, *options)["jobs"] == []
    assert clean(place, "--older-than", "0s")["jobs"] == ["b", "c"]


def test_files_used_by_others_stay_and_are_reported(place: Place) -> None:
    ended(place, "teacher", 40, State.FAILED)
    place.service.submit("pupil", spec("pupil"), placing=after("teacher"))
    held = ended(place, "held", 40)
    ended(place, "free", 40)
    with locked(held):
        told = clean(place, "--older-than", "30d")
    assert told["jobs"] == ["free"]
    assert told["left"] == {
        "teacher": "job 'pupil' starts after it", "held": "its run folder is in use",
    }  # fmt: skip
    assert place.queue.names() == ["teacher", "pupil", "held"]


def after(name: str) -> Placing:
    return Placing(after=(name,))


def test_users_see_how_much_a_removal_frees(place: Place) -> None:
    ended(place, "old", 31, steps="a")
    dry = Ran(place.workspace, "clean", "--older-than", "30d", "--dry-run")
    assert dry.stdout == "old: would be removed\n"
    assert "would free" in dry.stderr
    ran = Ran(place.workspace, "clean", "--older-than", "30d")
    assert ran.stdout == "old: removed\n"
    assert "freed" in ran.stderr
    assert "--bundles removes it" in ran.stderr


def test_without_any_submit_nothing_is_created(tmp_path: Path) -> None:
    ran = Ran(Workspace(tmp_path / "none"), "clean", "--older-than", "1d", "--json")
    assert json.loads(ran.stdout)["jobs"] == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("age", ["", "30", "d", "-3d", "1y", "nan d", "1e3d", "9" * 50, "1.d"])
def test_an_invalid_age_is_refused(place: Place, age: str) -> None:
    error = Ran(place.workspace, "clean", f"--older-than={age}").error
    assert "is not a duration; give a number with s, m, h, d or w" in error


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("1.5h", 5400), ("30d", 30 * DAY), (" 2W ", 14 * DAY)]
)
def test_an_age_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds
    with pytest.raises(UserError):
        parse_age(f"{text}x")


def test_unended_jobs_cannot_be_requested(place: Place) -> None:
    ran = Ran(place.workspace, "clean", "--older-than", "1d", "--state", "running")
    assert ran.status == 2
    assert "'running' is not one of 'done', 'failed', 'cancelled'" in ran.stderr
