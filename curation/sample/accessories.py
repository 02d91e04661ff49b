"""What people wear or hold in front of their faces: glasses, and temporary occlusions."""

from dataclasses import dataclass

import cv2
import numpy as np

from curation.sample.backdrop import canvas_points
from curation.sample.features import FeaturePen
from curation.sample.head import Head
from curation.sample.head_map import RELIEF_SIZE, SKIN_SIZE, map_directions
from curation.sample.person import Colour
from curation.sample.render import CANVAS, PICTURE, Camera

OCCLUSIONS = ("none", "sunglasses", "mask", "scarf", "hand", "hat")


@dataclass(frozen=True)
class Occlusion:
    """One object that occludes part of the face in one photograph."""

    kind: str = "none"
    colour: Colour = (60, 60, 64)
    place: float = 0.0
    """From -1 to 1: the side or the height, depending on the kind."""


def wear_on_head(
    occlusion: Occlusion, head: Head, skin: np.ndarray, radius: np.ndarray
) -> np.ndarray:
    """Draw a hat or a mask on the skin map (in place); return the changed relief."""
    if occlusion.kind == "hat":
        return _wear_hat(occlusion, skin, radius)
    if occlusion.kind == "mask":
        return _wear_mask(occlusion, head, skin, radius)
    return radius


def hold_before_face(
    canvas: np.ndarray, occlusion: Occlusion, head: Head, camera: Camera, glasses: bool
) -> None:
    """Draw glasses, sunglasses, scarf or hand over the finished head (in place)."""
    person = head.person
    if occlusion.kind == "sunglasses":
        _draw_glasses(canvas, head, camera, "round", occlusion.colour, dark=True)
    elif glasses and person.glasses != "none":
        _draw_glasses(canvas, head, camera, person.glasses, person.glasses_colour, dark=False)
    if occlusion.kind == "scarf":
        _draw_scarf(canvas, occlusion, camera, head)
    if occlusion.kind == "hand":
        _draw_hand(canvas, occlusion, head, camera)


def _wear_hat(occlusion: Occlusion, skin: np.ndarray, radius: np.ndarray) -> np.ndarray:
    edge = 0.42 + 0.07 * occlusion.place
    cover = _above(SKIN_SIZE, edge)[..., None]
    rib = 1.0 + 0.16 * np.sin(map_directions(SKIN_SIZE)[..., :1] * 70.0)
    band = 1.0 - 0.25 * (_above(SKIN_SIZE, edge) - _above(SKIN_SIZE, edge + 0.17))[..., None]
    knit = np.clip(np.array(occlusion.colour, np.float32) * rib * band, 0, 255)
    skin[:] = skin + cover * (knit - skin)
    small = _above(RELIEF_SIZE, edge)
    return radius + small * (np.float32(1.13) - radius)


def _above(size: int, edge: float) -> np.ndarray:
    """Where the head is higher than ``edge`` (of its half height), [size, size] in 0 to 1."""
    directions = map_directions(size)
    return np.clip((-directions[..., 1] - np.float32(edge)) * np.float32(30) + 0.5, 0, 1)


def _wear_mask(
    occlusion: Occlusion, head: Head, skin: np.ndarray, radius: np.ndarray
) -> np.ndarray:
    nose = head.person.nose.tip
    outline = np.array([[0, nose - 9], [11, nose - 5], [34, nose + 4], [35, 44], [22, 58], [0, 63]])
    outline = np.concatenate([outline, outline[::-1] * (-1, 1)])
    before = skin.copy()
    pen, colour = FeaturePen(skin, head.axes), np.array(occlusion.colour)
    for side in (-1, 1):
        pen.line(np.array([[34 * side, nose + 5], [41 * side, 2]]), colour * 0.9, 2)
    pen.fill(outline, colour)
    for level in (0.25, 0.5, 0.75):
        y = nose + 2 + level * (56 - nose)
        pen.line(np.array([[-32, y - 2], [0, y + 3], [32, y - 2]]), colour * 0.8, 2)
    covered = (np.abs(skin.astype(np.int16) - before).max(-1) > 12).astype(np.float32)
    covered = cv2.resize(covered, (RELIEF_SIZE, RELIEF_SIZE), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(radius, (0, 0), 3.5) + np.float32(0.04)
    return radius + cv2.GaussianBlur(covered, (0, 0), 1.0) * (smooth - radius)


def _draw_glasses(
    canvas: np.ndarray, head: Head, camera: Camera, style: str, colour: Colour, dark: bool
) -> None:
    spacing = head.person.eyes.spacing
    front = head.axes[2] * 1.02
    width, height, power = {"round": (13, 11.5, 1.0), "square": (14.5, 10, 0.5)}.get(
        style, (14.5, 11, 0.65)
    )
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    ring = np.stack([_bend(np.cos(angle), power), _bend(np.sin(angle), power)], -1)
    for side in (-1.0, 1.0):
        lens = np.tile([side * (spacing + 1.0), 2.0, front], (28, 1))
        lens[:, 0] += width * ring[:, 0]
        lens[:, 1] += height * ring[:, 1]
        lens[:, 2] -= 0.006 * lens[:, 0] ** 2
        places = canvas_points(camera.project(lens))
        _draw_lens(canvas, places, colour, dark)
        if style == "browline":
            cv2.polylines(canvas, [places[14:]], False, colour, 4, cv2.LINE_AA)
        _draw_temple(canvas, lens, side, head, camera, colour)
    inner = spacing + 1.0 - width
    bridge = np.array([[-inner, -1.0, front], [0.0, -2.5, front + 1], [inner, -1.0, front]])
    cv2.polylines(canvas, [canvas_points(camera.project(bridge))], False, colour, 2, cv2.LINE_AA)


def _bend(value: np.ndarray, power: float) -> np.ndarray:
    return np.sign(value) * np.abs(value) ** power


def _draw_lens(canvas: np.ndarray, places: np.ndarray, colour: Colour, dark: bool) -> None:
    glass = canvas.copy()
    cv2.fillPoly(glass, [places], (22, 22, 26) if dark else (205, 215, 225), cv2.LINE_AA)
    strength = 0.93 if dark else 0.10
    cv2.addWeighted(glass, strength, canvas, 1 - strength, 0, dst=canvas)
    cv2.polylines(canvas, [places], True, colour, 2, cv2.LINE_AA)
    shine = ((places[18:22] + places.mean(0)) / 2).astype(np.int32)
    cv2.polylines(canvas, [shine], False, (225, 228, 232), 1, cv2.LINE_AA)


def _draw_temple(
    canvas: np.ndarray, lens: np.ndarray, side: float, head: Head, camera: Camera, colour: Colour
) -> None:
    if side * camera.rotation[2, 0] < -0.05:  # this side of the head is turned away
        return
    outer = lens[0 if side > 0 else 14]
    ear = np.array([side * head.axes[0] * 0.92, -2.0, 8.0])
    cv2.polylines(
        canvas,
        [canvas_points(camera.project(np.array([outer, ear])))],
        False,
        colour,
        2,
        cv2.LINE_AA,
    )


def _draw_scarf(canvas: np.ndarray, occlusion: Occlusion, camera: Camera, head: Head) -> None:
    mouth = camera.project(np.array([[0.0, head.person.mouth.height, head.axes[2]]]))[0, 1]
    x = np.linspace(-5, PICTURE + 5, 16)
    top = mouth - 3 + 5 * occlusion.place + 2.0 * np.sin(x / 9.0) - 0.0022 * (x - 56) ** 2
    for layer in range(6):
        shade = 1.0 - 0.24 * (layer % 2)
        edge = np.stack([x, top + 7 * layer + np.sin(x / 13.0 + layer)], -1)
        closed = np.concatenate([edge, [[PICTURE + 5, PICTURE + 5], [-5, PICTURE + 5]]])
        colour = [channel * shade for channel in occlusion.colour]
        cv2.fillPoly(canvas, [canvas_points(closed)], colour, cv2.LINE_AA)


def _draw_hand(canvas: np.ndarray, occlusion: Occlusion, head: Head, camera: Camera) -> None:
    """Fingers from below, over one cheek or the mouth."""
    skin = np.array(head.person.skin)
    scale = CANVAS / PICTURE
    side = -1.0 if occlusion.place < 0 else 1.0
    start = np.array([56 + 34 * side, 122.0])
    for finger in range(4):
        lean = side * (12.0 - 9.0 * finger - 22.0 * abs(occlusion.place))
        tip = start + np.array([lean + side * 8 * (1 - finger), 4 * abs(finger - 1.5) - 44])
        root = start + np.array([side * (10 - 8.5 * finger), 0.0])
        ends = canvas_points(np.stack([root, tip]))
        for width, shade in ((10.5, 0.55), (8.8, 0.86), (4.5, 0.97)):
            colour = (skin * (shade, shade * 0.93, shade * 0.9)).tolist()
            cv2.polylines(canvas, [ends], False, colour, round(width * scale), cv2.LINE_AA)
