"""The drawn faces: their geometry, and that people are distinguishable."""

from dataclasses import fields, replace

import numpy as np
import pytest

from curation.alignment import ARCFACE_POINTS
from curation.contact_sheet import contact_sheet
from curation.sample.accessories import OCCLUSIONS, Occlusion
from curation.sample.features import Expression
from curation.sample.head import Head
from curation.sample.head_map import (
    FRACTION_BITS,
    RELIEF_SIZE,
    SKIN_SIZE,
    front_to_direction,
    front_to_skin,
    map_directions,
    to_map,
)
from curation.sample.non_faces import KINDS, draw_non_face
from curation.sample.person import HAIR_STYLES, random_person
from curation.sample.photograph import Conditions, photograph, random_conditions
from curation.sample.render import (
    CANVAS,
    PICTURE,
    aligned_camera,
    rotation,
    trace,
)
from curation.sample.sheet import people_sheet

AXES = np.array([46.0, 66.0, 60.0])


def head_number(number: int) -> Head:
    return Head.of(random_person(np.random.default_rng(number)))


def conditions_number(number: int, yaw: float | None = None) -> Conditions:
    return random_conditions(np.random.default_rng([99, number]), yaw)


def test_the_head_map_inverts_the_direction_of_every_place() -> None:
    row, column = np.mgrid[:RELIEF_SIZE, :RELIEF_SIZE]
    places = to_map(map_directions(RELIEF_SIZE), RELIEF_SIZE)
    inside = np.hypot(row - RELIEF_SIZE / 2, column - RELIEF_SIZE / 2) < RELIEF_SIZE / 2
    assert np.abs(places - np.stack([column, row], -1))[inside].max() < 1e-3


def test_drawing_places_agree_with_the_map() -> None:
    points = np.random.default_rng(0).uniform(-30, 30, (50, 2))
    slow = to_map(front_to_direction(points, AXES), SKIN_SIZE)
    drawn = front_to_skin(points, AXES) / (1 << FRACTION_BITS)
    assert np.abs(drawn - slow).max() <= 0.5 / (1 << FRACTION_BITS) + 1e-6


@pytest.mark.parametrize("angles", [(0, 0, 0), (30, 0, 0), (-20, 10, 5), (0, -12, -30)])
def test_rotations_are_rotations(angles: tuple[float, float, float]) -> None:
    turn = rotation(*angles)
    assert np.allclose(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1.0)


def test_a_positive_yaw_turns_the_face_to_the_right() -> None:
    assert (rotation(30, 0, 0) @ [0, 0, 1])[0] == pytest.approx(0.5)


@pytest.mark.parametrize("roll", [-25.0, 0.0, 40.0])
def test_alignment_undoes_roll_scale_and_shift(roll: float) -> None:
    flat = np.concatenate([1.7 * np.array(ARCFACE_POINTS) - 30.0, np.zeros((5, 1))], axis=1)
    camera = aligned_camera(rotation(0, 0, roll), flat, np.zeros((5, 2)))
    assert np.allclose(camera.project(flat), np.array(ARCFACE_POINTS))
    assert camera.scale == pytest.approx(1 / 1.7)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("yaw", [0.0, 25.0])
def test_landmarks_are_near_the_arcface_template(number: int, yaw: float) -> None:
    head = head_number(number)
    landmarks = head.landmarks(Expression(), head.radius_map(Expression()))
    camera = aligned_camera(rotation(yaw, 0, 0), landmarks, np.zeros((5, 2)))
    assert np.linalg.norm(camera.project(landmarks) - np.array(ARCFACE_POINTS), axis=1).max() < 12.0


@pytest.mark.parametrize("yaw", [0.0, 20.0, -20.0])
def test_rays_meet_a_bare_ellipsoid_as_computed(yaw: float) -> None:
    turn = rotation(yaw, 5.0, 0.0)
    landmarks = front_to_direction(np.array(ARCFACE_POINTS) - (56.0, 52.0), AXES) * AXES
    camera = aligned_camera(turn, landmarks, np.zeros((5, 2)))
    surface = trace(np.ones((RELIEF_SIZE, RELIEF_SIZE), np.float32), AXES, camera)
    line = (np.arange(CANVAS) + 0.5) * PICTURE / CANVAS - 0.5
    pixels = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2) - camera.similarity[:, 2]
    plane = pixels @ np.linalg.inv(camera.similarity[:, :2]).T
    origin = plane @ turn[:2] / AXES
    along = turn[2] / AXES
    a, b, c = along @ along, origin @ along, (origin**2).sum(1) - 1.0
    inner = b**2 - a * c > 0.3 * a
    exact = (-b + np.sqrt(np.maximum(b**2 - a * c, 0))) / a
    error = np.abs(surface.depth.reshape(-1) - exact)[inner]
    assert inner.sum() > 5_000
    assert error.max() < 0.5
    assert surface.cover.reshape(-1)[inner].min() == 1.0


def test_a_photograph_depends_on_its_arguments_alone() -> None:
    conditions = conditions_number(1)
    first, second = (photograph(head_number(5), conditions) for _ in range(2))
    assert first.shape == (112, 112, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_every_hair_style_can_be_photographed(style: str) -> None:
    person = random_person(np.random.default_rng(1))
    head = Head.of(replace(person, hair=replace(person.hair, style=style)))
    assert photograph(head, conditions_number(2, yaw=40.0)).std() > 10


@pytest.mark.parametrize("kind", OCCLUSIONS[1:])
def test_every_occlusion_hides_part_of_the_face(kind: str) -> None:
    head = head_number(3)
    bare = replace(conditions_number(4, yaw=0.0), occlusion=Occlusion())
    hidden = replace(bare, occlusion=Occlusion(kind))
    changed = np.abs(photograph(head, bare).astype(int) - photograph(head, hidden)).max(-1) > 25
    assert 0.02 < changed.mean() < 0.6


@pytest.mark.parametrize("expression", [field.name for field in fields(Expression)][:4])
def test_every_expression_moves_the_face(expression: str) -> None:
    head = head_number(6)
    rest = replace(conditions_number(5, yaw=0.0), expression=Expression(), occlusion=Occlusion())
    moved = replace(rest, expression=Expression(**{expression: 1.0}))
    change = np.abs(photograph(head, rest).astype(int) - photograph(head, moved))
    assert change.max() > 30


def test_people_differ_more_than_photographs_of_one() -> None:
    """In the same light and pose the drawing shows the person; the nuisance makes it hard."""
    calm = replace(conditions_number(6, yaw=0.0), occlusion=Occlusion(), expression=Expression())
    turned = replace(calm, yaw=4.0, expression=Expression(smile=0.3))
    calm_pictures, turned_pictures = (
        np.stack([photograph(head_number(number), how) for number in range(8)]).astype(float)
        for how in (calm, turned)
    )
    centre = (slice(None), slice(30, 105), slice(25, 87))
    gap = calm_pictures[:, None][:, :, *centre[1:]] - turned_pictures[None][:, :, *centre[1:]]
    distance = np.abs(gap).mean(axis=(2, 3, 4))
    assert distance.argmin(axis=1).tolist() == list(range(8))


@pytest.mark.parametrize("kind", KINDS)
def test_non_faces_have_image_size_and_are_never_equal(kind: str) -> None:
    pictures = [draw_non_face(kind, np.random.default_rng(seed)) for seed in range(6)]
    assert {picture.shape for picture in pictures} == {(112, 112, 3)}
    assert len({picture.tobytes() for picture in pictures}) == 6


def test_a_contact_sheet_arranges_images_in_rows() -> None:
    images = [np.full((4, 6, 3), level, np.uint8) for level in (10, 20, 30)]
    sheet = contact_sheet(images, columns=2, gap=1)
    assert sheet.shape == (9, 13, 3)
    assert sheet[0, 0, 0] == 10
    assert sheet[0, 7, 0] == 20
    assert sheet[5, 0, 0] == 30
    assert sheet[4, 0, 0] == sheet[0, 6, 0] == sheet[8, 12, 0] == 255


@pytest.mark.parametrize(("count", "columns"), [(0, 3), (2, 0)])
def test_an_empty_contact_sheet_is_refused(count: int, columns: int) -> None:
    with pytest.raises(ValueError, match="no sheet"):
        contact_sheet([np.zeros((2, 2, 3), np.uint8)] * count, columns)


def test_the_sheet_of_people_has_one_row_per_person() -> None:
    assert people_sheet(seed=0, people=range(2), photographs=3, side=40).shape == (82, 124, 3)
