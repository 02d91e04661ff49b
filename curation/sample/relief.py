"""The shape of a head as a radius for every place of the head map (1 is the bare ellipsoid)."""

from dataclasses import dataclass

import cv2
import numpy as np

from curation.sample.hair import ear_place
from curation.sample.head_map import RELIEF_SIZE, front_grid, map_directions
from curation.sample.person import Nose, Person

HEAD_DEPTH = 60.0  # semi-axis of the head towards the camera, in pixels


@dataclass(frozen=True)
class Relief:
    """Radius maps [RELIEF_SIZE, RELIEF_SIZE] float32: at rest, and the offsets of expressions."""

    rest: np.ndarray
    smile: np.ndarray
    open_mouth: np.ndarray


def head_axes(person: Person) -> np.ndarray:
    """Semi-axes [3] of the head's ellipsoid in pixels."""
    return np.array([person.face.half_width, person.face.half_height, HEAD_DEPTH])


def head_relief(person: Person, hair_mask: np.ndarray) -> Relief:
    """The relief of a person; ``hair_mask`` is [RELIEF_SIZE, RELIEF_SIZE] in 0 to 1."""
    x, y, front = front_grid(RELIEF_SIZE, head_axes(person))
    rest = _skull(person, x, y) + _nose(person.nose, x, y) + _eye_sockets(person, x, y)
    rest += _mouth_and_chin(person, x, y)
    rest = 1.0 + rest * front + _ears(person)
    hair = cv2.GaussianBlur(hair_mask, (0, 0), 2.6)
    rest = np.maximum(rest, (rest + _hair_volume(person)) * hair + rest * (1 - hair))
    mouth = person.mouth
    cheeks = _pair(x, y, mouth.half_width + 9.0, mouth.height - 14.0, 7.0, 7.0)
    corners = _pair(x, y, mouth.half_width + 5.0, mouth.height - 3.0, 3.5, 5.0)
    jaw = _bump(x, y, 0.0, 60.0, 20.0, 13.0)
    return Relief(
        rest=rest.astype(np.float32),
        smile=((0.035 * cheeks - 0.025 * corners) * front).astype(np.float32),
        open_mouth=(0.11 * jaw * front).astype(np.float32),
    )


def _skull(person: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    face = person.face
    bumps = (face.jaw - 0.10) * _pair(x, y, 33.0, 47.0, 12.0, 17.0)
    bumps += face.cheekbones * _pair(x, y, 29.0, 13.0, 9.0, 8.0)
    bumps += face.cheek_fullness * _pair(x, y, 25.0, 32.0, 9.0, 10.0)
    bumps += face.brow_ridge * _bump(x, y, 0.0, -9.0, 22.0, 3.5)
    return bumps - 0.03 * _pair(x, y, 42.0, -18.0, 9.0, 14.0)


def _nose(nose: Nose, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    along = np.clip((y + 7.0) / (nose.tip + 7.0), 0.0, 1.0)
    below = np.clip((y - nose.tip) / 4.0, 0.0, None)
    height = nose.protrusion * along**1.15 * np.exp(-0.5 * below**2)
    height += nose.hump * np.exp(-0.5 * ((y - 0.35 * nose.tip) / 4.5) ** 2)
    width = nose.bridge + (0.62 * nose.half_width - nose.bridge) * along**2
    ridge = height * np.exp(-0.5 * (x / width) ** 2)
    wings = _pair(x, y, 0.78 * nose.half_width, nose.tip - 0.3, 2.4, 2.9)
    return ridge + 0.4 * nose.protrusion * wings


def _eye_sockets(person: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    eyes = person.eyes
    sockets = _pair(x, y, eyes.spacing - 1.5, -1.0, eyes.half_length * 1.15, 5.8)
    balls = _pair(x, y, eyes.spacing, 0.3, 4.2, 3.4)
    return -eyes.depth * sockets + 0.032 * balls


def _ears(person: Person) -> np.ndarray:
    """Flat-topped bumps at the sides of the head."""
    x, y, z = np.moveaxis(map_directions(RELIEF_SIZE), -1, 0)
    at, radii = ear_place(person.face)
    oval = ((y - at[0]) / radii[0]) ** 2 + ((z - at[1]) / radii[1]) ** 2
    rim = np.exp(-(oval**2)) - 0.5 * np.exp(-((2.6 * oval) ** 2))
    return 0.017 * person.face.ear_size * rim * (np.abs(x) > 0.8)


def _mouth_and_chin(person: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    mouth = person.mouth
    width = 0.6 * mouth.half_width
    lips = 0.045 * _bump(x, y, 0.0, mouth.height, width * 1.3, 6.0)
    lips += 0.012 * mouth.lower_lip / 3.0 * _bump(x, y, 0.0, mouth.height + 2.6, width, 1.9)
    lips += 0.012 * mouth.upper_lip / 3.0 * _bump(x, y, 0.0, mouth.height - 2.2, width, 1.7)
    lips -= 0.022 * _bump(x, y, 0.0, mouth.height, width * 0.9, 1.1)
    hollow = -0.03 * _bump(x, y, 0.0, mouth.height + 9.0, 9.0, 2.6)
    chin = person.face.chin * _bump(x, y, 0.0, 58.0, 9.0, 6.0)
    fold = -0.014 * (0.5 + person.marks.wrinkles)
    return lips + hollow + chin + fold * _pair(x, y, mouth.half_width + 4.0, 31.0, 2.2, 8.0)


def _hair_volume(person: Person) -> float:
    thickness = {"bald": 0.0, "buzz": 0.15, "short": 0.6, "receding": 0.5, "curly": 1.6}
    return person.hair.volume * thickness.get(person.hair.style, 1.0)


def _bump(
    x: np.ndarray, y: np.ndarray, at_x: float, at_y: float, sigma_x: float, sigma_y: float
) -> np.ndarray:
    return np.exp(-0.5 * (((x - at_x) / sigma_x) ** 2 + ((y - at_y) / sigma_y) ** 2))


def _pair(
    x: np.ndarray, y: np.ndarray, at_x: float, at_y: float, sigma_x: float, sigma_y: float
) -> np.ndarray:
    """The same bump on both sides of the face."""
    return _bump(np.abs(x), y, at_x, at_y, sigma_x, sigma_y)
