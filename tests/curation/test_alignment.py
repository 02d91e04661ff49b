"""Cropping faces aligned by their five points."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standin_detector import drawn_face

from curation.alignment import ARCFACE_POINTS, align, similarity

TEMPLATE = np.array(ARCFACE_POINTS)


def by_least_squares(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Slow reference: the four unknowns of a similarity from ten equations."""
    rows, wanted = [], []
    for (x, y), (u, v) in zip(points, target, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        wanted += [u, v]
    a, b, left, top = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)[0]
    return np.array([[a, -b, left], [b, a, top]])


@given(st.integers(0, 10_000))
def test_the_closed_form_is_the_least_squares_solution(seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.normal(0, random.uniform(1, 1000), (5, 2)) + random.normal(0, 1000, 2)
    found, slow = similarity(points, TEMPLATE), by_least_squares(points, TEMPLATE)
    assert np.allclose(found @ [*points[0], 1], slow @ [*points[0], 1], atol=1e-6)
    assert np.allclose(found[:, :2], slow[:, :2], atol=1e-9)


def test_it_never_mirrors() -> None:
    mirrored = TEMPLATE * [-1, 1]
    assert np.linalg.det(similarity(mirrored, TEMPLATE)[:, :2]) > 0


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan)])
def test_degenerate_points_are_refused(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="points of a face coincide, or are not finite"):
        similarity(points, TEMPLATE)


@pytest.mark.parametrize(("scale", "turn"), [(0.6, 0.0), (1.0, 30.0), (2.4, -70.0), (5.0, 180.0)])
def test_a_face_anywhere_in_a_image_is_recovered(scale: float, turn: float) -> None:
    face = drawn_face(3)
    place = cv2.getRotationMatrix2D((55.5, 55.5), turn, scale) + np.array(
        [[0, 0, 300], [0, 0, 290]]
    )
    picture = cv2.warpAffine(face, place, (700, 680), flags=cv2.INTER_CUBIC)
    points = TEMPLATE @ place[:, :2].T + place[:, 2]
    difference = np.abs(align(picture, points).astype(int) - face)[12:-12, 12:-12]
    assert difference.mean() < (6 if scale < 1 else 2.5)


def test_a_large_face_does_not_alias() -> None:
    """Stripes as fine as the pixels of the image become grey."""
    stripes = np.zeros((1600, 1600, 3), np.uint8)
    stripes[:, ::2] = 255
    aligned = align(stripes, TEMPLATE * 12.3 + 40)
    assert np.abs(aligned.astype(int) - 127).max() < 25


def test_pixels_outside_the_image_are_black() -> None:
    aligned = align(np.full((112, 112, 3), 200, np.uint8), TEMPLATE + np.array([40, 0]))
    assert (aligned[:, 80:] == 0).all()
    assert (aligned[:, :70] == 200).all()
