"""Which faces of a photograph are kept, and why others are set aside."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
from standin_detector import drawn_face

from curation.alignment import ARCFACE_POINTS
from curation.images import decode
from curation.photographs.faces import FaceSettings, cut_faces, pose
from curation.sample.features import Expression
from curation.sample.head import Head
from curation.sample.person import random_person
from curation.sample.render import rotation

TEMPLATE = np.array(ARCFACE_POINTS)


@dataclass
class Found:
    boxes: np.ndarray
    points: np.ndarray
    scores: np.ndarray


def found(*places: tuple[float, float, float]) -> Found:
    """Faces whose templates have their corner at (x, y), and this side."""
    boxes = np.array([[x, y, side, side] for x, y, side in places], np.float32).reshape(-1, 4)
    points = [TEMPLATE * side / 112 + (x, y) for x, y, side in places]
    return Found(boxes, np.array(points).reshape(-1, 5, 2), np.full(len(places), 0.9))


def fates(pixels: np.ndarray, there: Found, **settings: object) -> list[str]:
    cut = cut_faces(pixels, there, FaceSettings(**settings))  # type: ignore[arg-type]
    return [one.face.fate for one in cut]


SHARP = np.random.default_rng(0).integers(0, 255, (400, 600, 3), np.uint8)
THREE = found((50, 60, 80), (240, 140, 120), (430, 20, 150))


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("largest", ["kept", "not-chosen", "not-chosen"]),
        ("central", ["not-chosen", "kept", "not-chosen"]),
        ("all", ["kept", "kept", "kept"]),
    ],
)
def test_one_face_or_all_are_chosen(which: str, expected: list[str]) -> None:
    assert fates(SHARP, THREE, faces=which) == expected
    assert fates(SHARP, found(), faces=which) == []


def test_the_largest_is_chosen_before_assessment() -> None:
    """The face behind a blurred person is somebody else's."""
    pixels = SHARP.copy()
    pixels[20:170, 430:580] = 128
    assert fates(pixels, THREE) == ["blurred", "not-chosen", "not-chosen"]


def test_small_faces_are_set_aside() -> None:
    (cut,) = cut_faces(SHARP, found((10, 10, 40)), FaceSettings())
    assert (cut.face.fate, cut.face.size) == ("small", 40.0)
    assert cut.face.note == "40 pixels; the minimum is 56"
    assert fates(SHARP, found((10, 10, 40)), least_size=40) == ["kept"]


def test_faces_cut_off_by_the_image_are_set_aside() -> None:
    assert fates(SHARP, found((-50, 10, 100))) == ["cut-off"]
    assert fates(SHARP, found((-30, 10, 100))) == ["kept"]


def test_blurred_faces_are_set_aside() -> None:
    face = cv2.resize(drawn_face(2), (224, 224), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(face, (0, 0), 9)
    assert fates(face, found((0, 0, 224))) == ["kept"]
    assert fates(soft, found((0, 0, 224))) == ["blurred"]


def points_of(yaw: float, pitch: float, roll: float = 0.0) -> np.ndarray:
    """The average points of drawn heads."""
    shown = []
    for number in range(8):
        head = Head.of(random_person(np.random.default_rng(number)))
        places = head.landmarks(Expression(), head.radius_map(Expression()))
        shown.append((places @ rotation(yaw, pitch, roll).T)[:, :2])
    return np.mean(shown, axis=0)


@pytest.mark.parametrize("roll", [0.0, 35.0, 170.0])
@pytest.mark.parametrize("yaw", [-70.0, -30.0, 0.0, 30.0, 70.0])
def test_yaw_is_measured_from_the_points(yaw: float, roll: float) -> None:
    assert pose(points_of(yaw, 0, roll))[0] == pytest.approx(yaw, abs=12)


def test_pitch_is_measured_from_the_points() -> None:
    down, ahead, up = (pose(points_of(0, pitch))[1] for pitch in (25, 0, -25))
    assert down - ahead > 15
    assert ahead - up > 15


def test_turned_faces_are_set_aside() -> None:
    turned = points_of(75, 0)
    turned = (turned - turned.min(axis=0)) * 3 + 100
    faces = Found(np.array([[80, 80, 200, 200.0]]), turned[None], np.array([0.9]))
    assert fates(SHARP, faces) == ["turned"]
    assert fates(SHARP, faces, most_turn=90.0) == ["kept"]


def test_faces_are_jpeg_files_of_the_aligned_size() -> None:
    (cut,) = cut_faces(SHARP, found((10, 10, 112)), FaceSettings(quality=100))
    assert np.abs(decode(cut.jpeg).astype(int) - SHARP[10:122, 10:122]).mean() < 3


def test_coinciding_points_are_not_a_face() -> None:
    one_place = Found(np.array([[1, 1, 9, 9.0]]), np.full((1, 5, 2), 5.0), np.array([0.9]))
    assert fates(SHARP, one_place) == ["small"]


def test_chosen_faces_are_refined() -> None:
    seen: list[float] = []

    def refine(pixels: np.ndarray, box: np.ndarray, points: np.ndarray) -> np.ndarray:
        seen.append(float(box[2]))
        return points + 1

    plain = cut_faces(SHARP, THREE, FaceSettings())[0].face.points
    refined = cut_faces(SHARP, THREE, FaceSettings(), refine)[0].face.points
    assert seen == [150.0]
    assert np.allclose(refined, np.array(plain) + 1, atol=0.02)
