"""The preprocessing contract: colours, sizes, numbers and digest."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from teachers.preprocessing import Preprocessing

OURS = {"colour": "RGB", "mean": 127.5, "std": 127.5}


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_pixels_are_normalised_by_channel_in_the_order():
    batch = images(2, 4, 6, 3)
    preprocessing = Preprocessing(
        colour="BGR", mean=(1.0, 2.0, 3.0), std=(10.0, 20.0, 30.0), size=(4, 6)
    )

    pixels = preprocessing(batch)

    assert pixels.shape == (2, 3, 4, 6)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    for b, y, x, c in np.ndindex(2, 4, 6, 3):
        expected = (float(batch[b, y, x, 2 - c]) - (1, 2, 3)[c]) / (10, 20, 30)[c]
        assert pixels[b, c, y, x] == pytest.approx(expected, rel=1e-6)


def test_mean_0_and_std_1_give_the_pixels_themselves():
    batch = images(1, 8, 8, 3)
    pixels = Preprocessing(colour="RGB", mean=0, std=1, size=(8, 8))(batch)
    np.testing.assert_array_equal(pixels, batch.transpose(0, 3, 1, 2))


def test_an_image_of_the_right_size_is_not_touched():
    batch = images(2, 112, 112, 3)
    assert Preprocessing.ours().resize(batch) is batch


def test_shrinking_to_half_averages_four_pixels():
    batch = images(1, 8, 8, 3)
    small = Preprocessing.ours((4, 4)).resize(batch).astype(float)
    blocks = batch.reshape(1, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    assert np.abs(small - blocks).max() <= 0.5


@pytest.mark.parametrize("shape", [(50, 50), (200, 200), (240, 280)])
def test_any_size_becomes_the_stated_one(shape: tuple[int, int]):
    batch = np.full((2, *shape, 3), 77, np.uint8)
    resized = Preprocessing.ours((96, 112)).resize(batch)
    assert resized.shape == (2, 96, 112, 3)
    assert (resized == 77).all()


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3)), np.zeros((1, 3, 4, 4), np.uint8)],
)
def test_arrays_that_are_no_image_batch_are_refused(wrong: np.ndarray):
    with pytest.raises(ValueError, match=r"images must be uint8 \[B, H, W, 3\]"):
        Preprocessing.ours().resize(wrong)


@pytest.mark.parametrize(
    "settings",
    [
        {"colour": "GRB"},
        {"mean": "127.5"},
        {"mean": [1.0, 2.0]},
        {"mean": float("nan")},
        {"std": 0.0},
        {"std": -1.0},
        {"size": [112]},
        {"size": [0, 112]},
        {"size": [112.0, 112.0]},
        {"sizes": [112, 112]},
    ],
)
def test_settings_that_mean_nothing_are_errors(settings: dict):
    with pytest.raises(ValidationError):
        Preprocessing(**OURS | settings)


def test_unset_fields_are_known():
    assert Preprocessing(mean=0, size=(8, 8)).missing == ["colour", "std"]
    assert Preprocessing.ours().missing == []


def test_one_number_and_three_equal_ones_have_one_digest():
    one = Preprocessing(colour="RGB", mean=127.5, std=128)
    three = Preprocessing.model_validate_json(
        '{"colour": "RGB", "mean": [127.5, 127.5, 127.5], "std": 128.0}'
    )
    assert one.digest == three.digest
    assert json.loads(one.canonical_json())["std"] == [128, 128, 128]


@pytest.mark.parametrize(
    "other", [{"colour": "BGR"}, {"mean": 127.0}, {"std": 128.0}, {"size": (112, 96)}]
)
def test_every_setting_changes_the_digest(other: dict):
    assert Preprocessing(**OURS | other).digest != Preprocessing.ours().digest
