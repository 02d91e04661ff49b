"""Learning rates follow from the step alone."""

import itertools
import math

import pytest

from distill.training.config import TrainSettings
from distill.training.schedule import learning_rate


def rates(steps=100, **settings):
    chosen = TrainSettings(learning_rate=0.1, final_learning_rate=0.001, **settings)
    return [learning_rate(chosen, step, steps) for step in range(steps)]


def test_the_warm_up_rises_in_equal_steps_to_the_full_rate():
    assert rates(warmup=0.1)[:10] == pytest.approx([0.01 * k for k in range(1, 11)])


def test_the_cosine_begins_high_ends_low_and_is_half_way_in_the_middle():
    values = rates(warmup=0.0, schedule="cosine")
    assert values[0] == pytest.approx(0.1)
    assert values[50] == pytest.approx((0.1 + 0.001) / 2)
    assert values[99] == pytest.approx(0.001 + 0.099 * (1 + math.cos(math.pi * 0.99)) / 2)


def test_the_linear_schedule_falls_in_equal_steps():
    values = rates(warmup=0.0, schedule="linear")
    falls = {round(a - b, 9) for a, b in itertools.pairwise(values)}
    assert falls == {round(0.099 / 100, 9)}


def test_a_constant_schedule_stays():
    assert set(rates(warmup=0.0, schedule="constant")) == {0.1}


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings_have_a_rate_too(steps):
    assert all(0 < value <= 0.1 for value in rates(steps=steps, warmup=0.5))
