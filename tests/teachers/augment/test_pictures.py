"""Every change of an image, compared with a slow and obvious implementation."""

import numpy as np
import pytest

from teachers.augment.formulas import colour_matrices, gamma_tables, motions
from teachers.augment.pictures import (
    blended,
    blurred,
    coarsened,
    erased,
    mirror,
    moved,
    recoloured,
    recompressed,
    toned,
)
from tests.conftest import draw

PICTURE = draw(2, 3)
HEIGHT, WIDTH = PICTURE.shape[:2]


def bilinear(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """The value between pixels; beyond the border the image is reflected."""

    def within(place: int, side: int) -> int:
        place = abs(place) % (2 * side - 2)
        return min(place, 2 * side - 2 - place)

    left, top = int(np.floor(x)), int(np.floor(y))
    value = np.zeros(3)
    for row, down in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, right in ((left, 1 - (x - left)), (left + 1, x - left)):
            at = picture[within(row, picture.shape[0]), within(column, picture.shape[1])]
            value += down * right * at
    return value


def one_motion(shift=(0.0, 0.0), scale=1.0, rotation=0.0, mirrored=False, size=(HEIGHT, WIDTH)):
    found = motions(
        size, np.array([shift]), np.array([scale]), np.array([rotation]), np.array([mirrored])
    )
    return found[0]


@pytest.mark.parametrize("mirrored", [False, True])
def test_moving_samples_the_image_along_the_motion(mirrored: bool) -> None:
    smooth = blurred(PICTURE, 1.5)
    shown = moved(smooth, one_motion((3.25, -1.5), 1.1, 7.0, mirrored))
    centre = (HEIGHT - 1) / 2
    angle = np.deg2rad(-7.0)  # y grows downwards
    for row, column in [(0, 0), (20, 31), (47, 5), (24, 24)]:
        x, y = np.array([column - 3.25, row + 1.5]) - centre
        back_x = (x * np.cos(-angle) + y * np.sin(-angle) * -1) / 1.1
        back_y = (x * np.sin(-angle) + y * np.cos(-angle)) / 1.1
        if mirrored:
            back_x = -back_x
        expected = bilinear(smooth, back_x + centre, back_y + centre)
        assert np.abs(shown[row, column] - expected).max() <= 2, (row, column)


def test_a_fourth_channel_does_not_change_moved_pixels() -> None:
    motion = one_motion((2.5, -1.0), 0.9, 5.0)
    opaque = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(moved(opaque, motion), moved(PICTURE, motion))


def test_moving_nothing_gives_the_image_or_its_mirror() -> None:
    np.testing.assert_array_equal(moved(PICTURE, one_motion()), PICTURE)
    np.testing.assert_array_equal(moved(PICTURE, one_motion(mirrored=True)), PICTURE[:, ::-1])
    np.testing.assert_array_equal(mirror(PICTURE), PICTURE[:, ::-1])


def test_whole_pixels_move_right_and_down_in_any_shape() -> None:
    tall = PICTURE[:, :30]
    shown = moved(tall, one_motion((2.0, 5.0), size=tall.shape[:2]))
    np.testing.assert_array_equal(shown[5:, 2:], tall[:-5, :-2])


def test_a_quarter_turn_is_counter_clockwise_as_it_is_seen() -> None:
    shown = moved(PICTURE, one_motion(rotation=90.0)).astype(int)
    assert np.abs(shown - np.rot90(PICTURE)).max() <= 1


def test_colours_follow_the_formula() -> None:
    brightness, contrast, saturation = 0.1, 1.2, 0.6
    gains = np.array([1.1, 1.0, 0.9])
    matrix = colour_matrices(
        np.array([brightness]), np.array([contrast]), np.array([saturation]), gains[None]
    )[0]
    shown = recoloured(PICTURE, matrix)
    for place in [(0, 0), (10, 40), (33, 7)]:
        pixel = PICTURE[place] / 255
        luma = pixel @ [0.299, 0.587, 0.114]
        value = gains * (luma + saturation * (pixel - luma))
        value = contrast * value + (1 - contrast) / 2 + brightness
        assert np.abs(shown[place] - (255 * value).clip(0, 255)).max() <= 1


def test_no_saturation_is_grey_and_neutral_is_no_change() -> None:
    one, none = np.ones(1), np.zeros(1)
    grey = recoloured(PICTURE, colour_matrices(none, one, none, np.ones((1, 3)))[0])
    assert (grey == grey[..., :1]).all()
    same = recoloured(PICTURE, colour_matrices(none, one, one, np.ones((1, 3)))[0])
    np.testing.assert_array_equal(same, PICTURE)


def test_gamma_is_a_power_of_the_value() -> None:
    tables = gamma_tables(np.array([0.7, 1.0, 1.6]))
    for table, gamma in zip(tables, (0.7, 1.0, 1.6), strict=True):
        np.testing.assert_array_equal(table, np.rint(255 * (np.arange(256) / 255) ** gamma))
    np.testing.assert_array_equal(toned(PICTURE, tables[2]), tables[2][PICTURE])


@pytest.mark.parametrize("sigma", [0.6, 1.0, 1.4])
def test_a_blur_weighs_the_neighbours_by_a_gaussian(sigma: float) -> None:
    radius = int(np.ceil(2 * sigma))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    weights /= weights.sum()
    for row, column in [(20, 20), (9, 30)]:
        patch = PICTURE[
            row - radius : row + radius + 1, column - radius : column + radius + 1
        ].astype(float)
        expected = np.einsum("i,j,ijc->c", weights, weights, patch)
        assert np.abs(blurred(PICTURE, sigma)[row, column] - expected).max() <= 1


def test_a_negligible_blur_is_none() -> None:
    assert blurred(PICTURE, 0.1) is PICTURE


def test_a_low_resolution_loses_small_details() -> None:
    stripes = np.zeros((48, 48, 3), np.uint8)
    stripes[:, ::2] = 200  # finer than the remaining pixels
    stripes[:24] //= 2
    shown = coarsened(stripes, 12)
    assert shown.shape == stripes.shape
    assert np.ptp(shown[2:20], axis=1).max() <= 4
    assert abs(int(shown[8, 24, 0]) - 50) <= 4
    assert abs(int(shown[40, 24, 0]) - 100) <= 4


@pytest.mark.parametrize("height", [48, 60])
def test_no_image_is_reduced_to_more_than_its_height(height: int) -> None:
    assert coarsened(PICTURE, height) is PICTURE


def test_jpeg_takes_the_more_the_lower_its_quality_is() -> None:
    errors = [
        np.abs(recompressed(PICTURE, quality).astype(int) - PICTURE).mean()
        for quality in (95, 60, 20)
    ]
    assert 0 < errors[0] < errors[1] < errors[2]


def test_a_box_is_one_colour_and_the_rest_stays() -> None:
    colour = np.array([9, 8, 7], np.uint8)
    shown = erased(PICTURE, 5, 10, 7, 3, colour)
    assert (shown[5:12, 10:13] == colour).all()
    shown[5:12, 10:13] = PICTURE[5:12, 10:13]
    np.testing.assert_array_equal(shown, PICTURE)


def test_blending_is_the_weighted_mean() -> None:
    other = draw(4, 1)
    expected = np.rint(0.7 * PICTURE.astype(float) + 0.3 * other)
    assert np.abs(blended(PICTURE, other, 0.3) - expected).max() <= 1


def test_no_change_writes_into_the_image() -> None:
    before = PICTURE.copy()
    erased(PICTURE, 0, 0, 5, 5, np.zeros(3, np.uint8))
    blended(PICTURE, draw(0, 0), 0.5)
    moved(PICTURE, one_motion((1.5, 0.5)))
    recompressed(PICTURE, 30)
    coarsened(PICTURE, 9)
    blurred(PICTURE, 2.0)
    np.testing.assert_array_equal(PICTURE, before)
