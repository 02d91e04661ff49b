"""Images without a face, like those from careless crawls and false detections."""

import cv2
import numpy as np

from curation.sample.render import CANVAS, PICTURE

KINDS = ("texture", "object", "blank", "noise")


def draw_non_face(kind: str, rng: np.random.Generator) -> np.ndarray:
    """One image of the given kind, [112, 112, 3] uint8 RGB."""
    draw = {"texture": _texture, "object": _object, "blank": _blank, "noise": _noise}[kind]
    return cv2.resize(draw(rng), (PICTURE, PICTURE), interpolation=cv2.INTER_AREA)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Waves or bricks in two colours."""
    first, second = rng.uniform(20, 235, (2, 3))
    y, x = np.mgrid[:CANVAS, :CANVAS]
    angle, length = rng.uniform(0, np.pi), rng.uniform(5, 24)
    along = x * np.cos(angle) + y * np.sin(angle)
    if rng.random() < 0.5:
        height = int(rng.integers(10, 24))
        shifted = x + (y // height % 2) * height
        mix = ((y % height < 2) | (shifted % (2 * height) < 2)).astype(np.float64)
    else:
        mix = 0.5 + 0.5 * np.sin(along / length * 6.28 + 2 * np.sin(y / rng.uniform(8, 40)))
    colours = first + mix[..., None] * (second - first) + rng.normal(0, 7, (CANVAS, CANVAS, 1))
    return np.clip(colours, 0, 255).astype(np.uint8)


def _object(rng: np.random.Generator) -> np.ndarray:
    """A cartoon of a house, a tree or a clock."""
    canvas = np.full((CANVAS, CANVAS, 3), rng.uniform(120, 250, 3), np.uint8)
    cv2.rectangle(canvas, (0, 128), (CANVAS, CANVAS), rng.uniform(40, 170, 3).tolist(), -1)
    draw = (_draw_house, _draw_tree, _draw_clock)[rng.integers(3)]
    draw(canvas, rng)
    return canvas


def _draw_house(canvas: np.ndarray, rng: np.random.Generator) -> None:
    wall, roof, glass = rng.uniform(30, 240, (3, 3)).tolist()
    left, right, top = 36, 132, int(rng.integers(66, 86))
    cv2.rectangle(canvas, (left, top), (right, 146), wall, -1)
    gable = np.array([[left - 8, top], [84, top - 44], [right + 8, top]], np.int32)
    cv2.fillPoly(canvas, [gable], roof, cv2.LINE_AA)
    for x in (48, 100):
        cv2.rectangle(canvas, (x, top + 14), (x + 20, top + 34), glass, -1)
    cv2.rectangle(canvas, (74, 110), (92, 146), roof, -1)


def _draw_tree(canvas: np.ndarray, rng: np.random.Generator) -> None:
    cv2.rectangle(canvas, (76, 90), (92, 150), (96, 66, 40), -1)
    green = np.array([rng.uniform(20, 120), rng.uniform(110, 180), 50])
    for _ in range(14):
        x, y = (rng.normal((84, 62), (24, 20))).astype(int).tolist()
        leaf = np.clip(green + rng.normal(0, 14), 0, 255).tolist()
        cv2.circle(canvas, (x, y), int(rng.integers(12, 26)), leaf, -1, cv2.LINE_AA)


def _draw_clock(canvas: np.ndarray, rng: np.random.Generator) -> None:
    rim, dial = rng.uniform(20, 110, 3).tolist(), rng.uniform(200, 255, 3).tolist()
    cv2.circle(canvas, (84, 84), 62, rim, -1, cv2.LINE_AA)
    cv2.circle(canvas, (84, 84), 54, dial, -1, cv2.LINE_AA)
    for length, thickness in ((32, 5), (46, 3)):
        angle = rng.uniform(0, 2 * np.pi)
        end = (round(84 + length * np.cos(angle)), round(84 + length * np.sin(angle)))
        cv2.line(canvas, (84, 84), end, rim, thickness, cv2.LINE_AA)


def _blank(rng: np.random.Generator) -> np.ndarray:
    """Nearly one colour: a lens cap, an overexposed sky, a wall. No two files are equal."""
    darkest = float(rng.choice((2, 120, 225)))
    corners = darkest + rng.uniform(0, 24) + rng.uniform(0, 5, (2, 2, 3))
    small = np.clip(corners, 0, 255).astype(np.float32)
    return cv2.resize(small, (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _noise(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (CANVAS, CANVAS, 3), dtype=np.uint8)
