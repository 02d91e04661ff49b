"""Vectors with one byte per value."""

import numpy as np

from teachers.precision import from_int8, to_int8


def test_int8_keeps_the_direction_of_a_vector():
    random = np.random.default_rng(0)
    for width in (16, 128, 512):
        raw = random.normal(size=(300, width)) * random.uniform(0.01, 100, (300, 1))
        unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        back = from_int8(to_int8(raw)).astype(np.float64)
        assert np.abs(np.linalg.norm(back, axis=1) - 1).max() < 1e-3
        cosines = (unit * back).sum(axis=1) / np.linalg.norm(back, axis=1)
        assert cosines.min() > 0.9999


def test_every_vector_has_a_scale_of_its_own():
    stored = to_int8(np.array([[1e-3, -2e-3, 0.0], [500.0, 1000.0, 250.0]]))
    assert stored.tolist() == [[64, -127, 0], [64, 127, 32]]


def test_rows_never_requested_stay_zero():
    assert not from_int8(np.zeros((2, 3), np.int8)).any()
