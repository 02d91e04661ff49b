"""The background of a face: a room out of focus, neck, clothes, and hair behind the head."""

import cv2
import numpy as np

from curation.sample.head import Head
from curation.sample.render import CANVAS, PICTURE, Camera

BLURRED = 42  # the room is drawn small, since it is out of focus
BEHIND = {"long": (1.22, 1.75), "bob": (1.20, 0.95), "curly": (1.24, 0.45)}
"""Styles with hair behind the head: width and downward reach, in semi-axes of the head."""


def draw_backdrop(
    head: Head, camera: Camera, brightness: float, rng: np.random.Generator
) -> np.ndarray:
    """Everything behind the head, [CANVAS, CANVAS, 3] uint8; ``brightness`` is the light's."""
    canvas = _room(rng)
    _draw_hair_behind(canvas, head, camera, brightness)
    _draw_neck(canvas, head, camera, brightness)
    _draw_clothes(canvas, head, camera, rng)
    return canvas


def canvas_points(places: np.ndarray) -> np.ndarray:
    """Image coordinates as integer canvas pixels for cv2."""
    return np.round((np.asarray(places) + 0.5) * (CANVAS / PICTURE) - 0.5).astype(np.int32)


def _room(rng: np.random.Generator) -> np.ndarray:
    """Blurred blocks of light around a random colour, with some discs of light."""
    base = rng.uniform(40, 215) + rng.uniform(-22, 22, 3)
    blocks = base + rng.normal(0, rng.uniform(4, 38), (5, 5, 1)) + rng.normal(0, 7, (5, 5, 3))
    small = np.clip(blocks, 0, 255).astype(np.uint8)
    room = cv2.resize(small, (BLURRED, BLURRED), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.35:
        for _ in range(rng.integers(3, 10)):
            x, y = rng.integers(0, BLURRED, 2).tolist()
            colour = np.clip(base + 25 + rng.normal(0, 30) + rng.normal(0, 15, 3), 0, 255)
            cv2.circle(room, (x, y), int(rng.integers(2, 6)), colour.tolist(), -1, cv2.LINE_AA)
    return cv2.resize(cv2.blur(room, (3, 3)), (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR)


def _draw_hair_behind(canvas: np.ndarray, head: Head, camera: Camera, brightness: float) -> None:
    style = head.person.hair.style
    if style not in BEHIND:
        return
    width, reach = BEHIND[style]
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = width * head.axes[0] * np.sin(angle)
    y = head.axes[1] * np.where(np.cos(angle) > 0, -1.15 * np.cos(angle), -reach * np.cos(angle))
    if style != "curly":  # straight down instead of curling in under the chin
        x = np.sign(x) * width * head.axes[0] * np.abs(np.sin(angle)) ** 0.5
    outline = np.stack([x, y, np.full_like(x, -16.0)], -1)
    colour = np.array(head.person.hair.colour) * 0.62 * brightness
    places = canvas_points(camera.project(outline))
    cv2.fillPoly(canvas, [places], np.clip(colour, 0, 255).tolist(), cv2.LINE_AA)
    for start, end in zip(places[1:19:2], places[39:21:-2], strict=True):
        middle = (start + end) // 2
        for place in (start + (middle - start) // 4, end + (middle - end) // 4):
            top = (int(place[0]), int(places[0][1]))
            cv2.line(canvas, top, (int(place[0]), int(place[1])), (colour * 0.8).tolist(), 2)


def _draw_neck(canvas: np.ndarray, head: Head, camera: Camera, brightness: float) -> None:
    half = 0.62 * head.axes[0]
    top = camera.project(np.array([[-half, 34.0, -14.0], [half, 34.0, -14.0]]))
    bottom = top + np.array([[-4.0, 70.0], [4.0, 70.0]])
    shadow = np.array(head.person.skin) * (0.46, 0.40, 0.38) * brightness
    cv2.fillPoly(
        canvas,
        [canvas_points(np.concatenate([top, bottom[::-1]]))],
        np.clip(shadow, 0, 255).tolist(),
        cv2.LINE_AA,
    )


def _draw_clothes(canvas: np.ndarray, head: Head, camera: Camera, rng: np.random.Generator) -> None:
    chin = camera.project(np.array([[0.0, head.axes[1], 0.0]]))[0]
    collar = chin + np.array(
        [[-95, 26], [-42, 12], [0, 19], [42, 12], [95, 26], [95, 90], [-95, 90]]
    )
    colour = rng.uniform(20, 230, 3).tolist()
    cv2.fillPoly(canvas, [canvas_points(collar)], colour, cv2.LINE_AA)
