"""Learning rates are a function of the step."""

import itertools
import math

import pytest
from pydantic import ValidationError

from distill.training.config import TrainSettings
from distill.training.schedule import scheduled_rate


def rates(steps=100, **settings):
    chosen = TrainSettings(**{"learning_rate": 0.1, "final_learning_rate": 0.001, **settings})
    return [scheduled_rate(chosen, step, steps) for step in range(steps)]


def test_the_warm_up_rises_in_equal_steps_to_the_full_rate():
    assert rates(warmup=0.1)[:10] == pytest.approx([0.01 * k for k in range(1, 11)])


def test_a_warm_up_that_ends_within_a_step_takes_the_whole_step():
    assert at([0, 1, 2, 3], 10, learning_rate=0.3, warmup=0.25, schedule="linear")[:3] == (
        pytest.approx([0.1, 0.2, 0.3])
    )


def test_the_cosine_is_half_way_in_the_middle():
    values = rates(warmup=0.0, schedule="cosine")
    assert values[0] == pytest.approx(0.1)
    assert values[50] == pytest.approx((0.1 + 0.001) / 2)
    assert values[99] == pytest.approx(0.001 + 0.099 * (1 + math.cos(math.pi * 0.99)) / 2)


def test_the_linear_schedule_falls_in_equal_steps():
    values = rates(warmup=0.0, schedule="linear")
    falls = {round(a - b, 9) for a, b in itertools.pairwise(values)}
    assert falls == {round(0.099 / 100, 9)}


def test_a_constant_schedule_stays():
    assert set(rates(warmup=0.0, schedule="constant", final_learning_rate=None)) == {0.1}


def at(steps, total, **settings):
    """The rates at some steps of ``total``."""
    chosen = TrainSettings(**settings)
    return [scheduled_rate(chosen, step, total) for step in steps]


def test_the_steps_of_the_mobilefacenets_paper():
    """0.1, divided by 10 at 32K, 48K and 56K of 60K iterations (section IV.A)."""
    settings = {
        "schedule": "step",
        "milestones": [32 / 60, 48 / 60, 56 / 60],
        "warmup": 0.0,
        "learning_rate": 0.1,
    }
    steps = [0, 31_999, 32_000, 47_999, 48_000, 55_999, 56_000, 59_999]
    expected = [0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4]
    assert at(steps, 60_000, **settings) == pytest.approx(expected)


def test_the_steps_of_the_seesawfacenets_paper():
    """Divided by 10 at epochs 9, 13 and 15 of 16."""
    settings = {"schedule": "step", "milestones": [9 / 16, 13 / 16, 15 / 16], "warmup": 0.0}
    each = 777  # steps per epoch
    found = at([epoch * each for epoch in range(16)], 16 * each, **settings)
    assert found == pytest.approx([0.1] * 9 + [0.01] * 4 + [1e-3] * 2 + [1e-4])


def test_steps_fall_by_the_given_factor_after_the_warm_up():
    settings = {"schedule": "step", "milestones": [0.5], "decay": 0.25, "warmup": 0.2}
    assert at([0, 1, 2, 4, 5, 9], 10, learning_rate=0.8, **settings) == pytest.approx(
        [0.4, 0.8, 0.8, 0.8, 0.2, 0.2]
    )


def test_the_polynomial_falls_as_insightfaces():
    """Base rate times (1 - share)^2 after the warm-up, with power 2 as in their partial_fc."""
    settings = {"schedule": "polynomial", "warmup": 0.2, "final_learning_rate": 0.0}
    found = at([0, 1, 2, 4, 6, 9], 10, learning_rate=0.4, **settings)
    assert found == pytest.approx([0.2, 0.4, 0.4, 0.225, 0.1, 0.4 / 64])
    cubic = {"schedule": "polynomial", "power": 3.0, "final_learning_rate": 0.01, "warmup": 0.0}
    assert at([5, 10], 10, learning_rate=0.41, **cubic) == pytest.approx([0.01 + 0.4 / 8, 0.01])


def test_the_cosine_from_a_tenth_to_a_ten_thousandth():
    found = at([0, 25, 50, 75, 100], 100, warmup=0.0)
    assert found == pytest.approx([0.1, 0.08537, 0.05005, 0.01473, 1e-4], rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"milestones": [0.5]}, 'milestones: needs schedule = "step"'),
        ({"schedule": "linear", "decay": 0.1}, 'decay: needs schedule = "step"'),
        ({"schedule": "step", "milestones": [0.5], "power": 2.0}, 'needs schedule = "polynomial"'),
        ({"schedule": "step"}, r"milestones = \[\]; allowed: shares of all steps in ascending"),
        ({"schedule": "step", "milestones": [0.8, 0.5]}, "ascending order"),
        ({"schedule": "step", "milestones": [0.5, 1.0]}, "before 1"),
        ({"schedule": "step", "milestones": [0.05], "warmup": 0.1}, r"after the warm-up \(0.1\)"),
        (
            {"schedule": "step", "milestones": [0.5], "final_learning_rate": 0.0},
            "final_learning_rate: has no effect with",
        ),
        ({"schedule": "constant", "final_learning_rate": 0.01}, "which stays at learning_rate"),
        ({"schedule": ["step"]}, "'cosine', 'linear', 'polynomial', 'step' or 'constant'"),
    ],
)
def test_settings_of_another_schedule_are_refused_in_one_line(settings, said):
    with pytest.raises(ValidationError, match=said) as error:
        TrainSettings(**settings)
    [fault] = error.value.errors()
    assert "\n" not in fault["msg"]


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings_have_a_rate_too(steps):
    assert all(0 < value <= 0.1 for value in rates(steps=steps, warmup=0.5))
