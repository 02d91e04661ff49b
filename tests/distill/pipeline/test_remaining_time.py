"""The speed of work, and the remaining time of a step and a job."""

import json

import pytest

from curation.progress import Pace, seconds_left
from distill.pipeline.record import RunRecord, remaining
from distill.run_directory import StepState


def pace_of(*marks):
    """A pace with marks ``(second, done)``."""
    now = [0.0]
    pace = Pace(lambda: now[0])
    for now[0], done in marks:
        pace.mark(done)
    return pace.per_second


@pytest.mark.parametrize(
    ("marks", "per_second"),
    [
        ([], None),
        ([(0, 0)], None),
        ([(0, 0), (2, 200)], 100),
        ([(0, 5000), (2, 5200)], 100),  # a resumed run: earlier work took no time
        ([(0, 0), (0.1, 10), (0.2, 20), (2, 200)], 100),
        ([(0, 0), (5, 0)], None),  # nothing moved
        ([(0, 0), (20, 2000), (60, 2040), (80, 2060)], 1),  # the last minute counts
        ([(0, 0), (100, 10_000), (200, 10_100)], 1),  # or half of the time
        ([(0, 500), (1, 600), (2, 0), (4, 20)], 10),  # a new count has started
    ],
)
def test_a_speed_is_that_of_the_last_minute_or_half(marks, per_second):
    assert pace_of(*marks) == per_second


def test_a_pause_for_an_evaluation_hardly_changes_a_speed():
    """Five minutes at 100 a second alternate with one minute without progress."""
    now = [0.0]
    pace, done = Pace(lambda: now[0]), 0
    found = []
    for second in range(4 * 360):
        now[0] = second
        done += 100 if second % 360 < 300 else 0
        if second % 360 < 300:
            pace.mark(done)
            found.append(pace.per_second)
    assert all(70 < speed <= 101 for speed in found[360:])


def test_the_marks_of_a_long_work_stay_few():
    now = [0.0]
    pace = Pace(lambda: now[0])
    for now[0] in range(100_000):
        pace.mark(now[0])
    assert len(pace._marks) < 150


def test_the_remaining_time_follows_from_the_speed():
    assert seconds_left(100, 300, 10) == 20
    assert seconds_left(400, 300, 10) == 0
    assert seconds_left(100, 300, None) is None


def steps(*states, images=1000):
    kinds = ["teach", "embed", "distil", "distil", "evaluate"]
    return [
        StepState(f"step {number}", kind, state, seconds=10.0 if state == "done" else None,
                  images=images if kind in ("teach", "distil") else None)
        for number, (kind, state) in enumerate(zip(kinds, states, strict=True))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("states", "current", "step_left", "job_left"),
    [
        # The speed of a student is not known while its teacher learns.
        (["running", "waiting", "waiting", "waiting", "waiting"], 0, 50, None),
        (["done", "done", "running", "waiting", "waiting"], 2, 50, 150),
        (["reused", "reused", "done", "running", "waiting"], 3, 50, 50),
        (["done", "done", "running", "skipped", "waiting"], 2, 50, 50),
    ],
)
def test_the_rest_is_estimated_from_trainings_of_the_kind(states, current, step_left, job_left):
    left = remaining(steps(*states), f"step {current}", 500, 1000, 10.0)
    assert (left["seconds_left"], left["job_seconds_left"]) == (step_left, job_left)


def test_nothing_is_estimated_before_anything_moved():
    left = remaining(steps("running", *["waiting"] * 4), "step 0", 0, 1000, None)
    assert set(left.values()) == {None}


def test_the_record_of_a_run_has_its_progress(tmp_path):
    record = RunRecord(tmp_path)
    record.steps = steps("waiting", *["waiting"] * 4)
    with record.step("step 0"):
        record.progress(1000, 1000)
    told = json.loads((tmp_path / "progress.json").read_text())
    assert (told["step"], told["done"], told["total"]) == ("step 0", 1000, 1000)
    assert {"time", "per_second", "seconds_left", "job_seconds_left"} <= set(told)
