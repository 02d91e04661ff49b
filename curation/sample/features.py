"""Eyes, brows and mouth, drawn on the head map for each photograph because they move."""

from dataclasses import dataclass

import cv2
import numpy as np

from curation.sample.head_map import FRACTION_BITS, front_to_skin
from curation.sample.person import Person

ALONG = np.linspace(-1, 1, 13)  # from one end of a lid or brow to the other
UNIT_CIRCLE = np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], -1)


@dataclass(frozen=True)
class Expression:
    """The movements of the face, each from 0 (at rest) to 1; the gaze is in pixels of the eye."""

    smile: float = 0.0
    open_mouth: float = 0.0
    closed_eyes: float = 0.0
    raised_brows: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)


class FeaturePen:
    """Draws polygons and lines given in front-view pixels onto a skin map."""

    def __init__(self, skin: np.ndarray, axes: np.ndarray) -> None:
        self.skin = skin
        self.axes = axes

    def fill(self, points: np.ndarray, colour: np.ndarray) -> None:
        places = front_to_skin(points, self.axes)
        cv2.fillPoly(self.skin, [places], colour.tolist(), cv2.LINE_AA, FRACTION_BITS)

    def line(self, points: np.ndarray, colour: np.ndarray, width: int) -> None:
        places = front_to_skin(points, self.axes)
        cv2.polylines(
            self.skin, [places], False, colour.tolist(), width, cv2.LINE_AA, FRACTION_BITS
        )


def draw_features(pen: FeaturePen, person: Person, expression: Expression) -> None:
    """Draw all moving features."""
    for side in (-1.0, 1.0):
        _draw_eye(pen, person, expression, side)
        _draw_brow(pen, person, expression, side)
    _draw_nostrils(pen, person)
    _draw_mouth(pen, person, expression)


def mouth_corners(person: Person, expression: Expression) -> np.ndarray:
    """Front-view coordinates [2, 2] of the left and right corner, in pixels."""
    half = person.mouth.half_width * (1 + 0.16 * expression.smile - 0.10 * expression.open_mouth)
    y = person.mouth.height - person.mouth.corners - 2.6 * expression.smile
    return np.array([[-half, y], [half, y]])


def _draw_eye(pen: FeaturePen, person: Person, expression: Expression, side: float) -> None:
    eyes, skin = person.eyes, np.array(person.skin)
    opening = eyes.opening * (1 - expression.closed_eyes) * (1 - 0.25 * expression.smile)
    upper, lower = _eyelids(person, max(opening, 0.03), side)
    dark = skin * 0.25 * (1 - 0.6 * eyes.liner)
    if opening > 0.12:
        almond = np.concatenate([upper, lower[::-1]])
        _draw_eyeball(pen, person, expression, almond, side)
    pen.line(lower, skin * (0.72, 0.58, 0.54), 1)
    pen.line(upper, dark, 3 if eyes.liner > 0.35 else 2)
    if eyes.crease > 0.25:
        lift = np.array([0.0, -1.3 - 1.6 * eyes.crease])
        pen.line(upper[1:-1] + lift, skin * (1 - 0.34 * eyes.crease), 1)


def _eyelids(person: Person, opening: float, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower lid, [13, 2] each, from the inner to the outer corner."""
    eyes = person.eyes
    bulge = 1.0 - np.abs(ALONG) ** 2.3
    half = eyes.half_length
    rise = -eyes.tilt * ALONG * half
    x = side * (eyes.spacing + ALONG * half)
    upper = np.stack([x, rise - half * opening * 0.95 * bulge], -1)
    lower = np.stack([x, rise + half * opening * 0.62 * bulge], -1)
    return upper, lower


def _draw_eyeball(
    pen: FeaturePen, person: Person, expression: Expression, almond: np.ndarray, side: float
) -> None:
    """White, iris, pupil and highlight, clipped to the lids."""
    mask = np.zeros(pen.skin.shape[:2], np.uint8)
    places = front_to_skin(almond, pen.axes)
    cv2.fillPoly(mask, [places], 255, cv2.LINE_AA, FRACTION_BITS)
    left, top, width, height = cv2.boundingRect(places >> FRACTION_BITS)
    rows, columns = slice(top - 2, top + height + 3), slice(left - 2, left + width + 3)
    ball = FeaturePen(pen.skin.copy(), pen.axes)
    ball.skin[rows, columns] = (224, 218, 214)
    centre = np.array([side * person.eyes.spacing, -0.5]) + expression.gaze
    iris = np.array(person.eyes.colour)
    ball.fill(_circle(centre, 4.1), iris * 0.45)
    ball.fill(_circle(centre, 3.4), iris)
    ball.fill(_circle(centre + np.array([0, 0.9]), 2.4), np.minimum(iris * 1.25 + 12, 255))
    ball.fill(_circle(centre, 1.65), np.array([12.0, 10, 10]))
    ball.fill(_circle(centre - 1.2, 0.85), np.array([255.0, 255, 255]))
    cover = mask[rows, columns, None].astype(np.float32) / 255.0
    under, over = pen.skin[rows, columns], ball.skin[rows, columns]
    pen.skin[rows, columns] = under + cover * (over.astype(np.float32) - under)


def _draw_brow(pen: FeaturePen, person: Person, expression: Expression, side: float) -> None:
    brows = person.brows
    x = side * (person.eyes.spacing + 0.6 + ALONG * brows.half_length)
    height = brows.height + 2.6 * expression.raised_brows
    spine = -height - brows.arch * (1 - (ALONG - 0.25) ** 2) - brows.tilt * ALONG * 9 + brows.arch
    thick = brows.thickness * np.sqrt(np.clip((1.06 - ALONG) * (ALONG + 1.25), 0, None)) * 0.85
    outline = np.concatenate(
        [np.stack([x, spine - thick], -1), np.stack([x, spine + thick * 0.8], -1)[::-1]]
    )
    hair, skin = np.array(person.hair.colour), np.array(person.skin)
    colour = skin + (hair * 0.8 - skin) * (0.35 + 0.6 * brows.strength)
    pen.fill(outline, skin + (colour - skin) * 0.75)
    pen.fill(np.concatenate([outline[1:12], outline[14:25]]), colour)  # soft at both ends


def _draw_nostrils(pen: FeaturePen, person: Person) -> None:
    nose, dark = person.nose, np.array(person.skin) * (0.34, 0.22, 0.20)
    for side in (-1.0, 1.0):
        at = np.array([side * nose.half_width * 0.46, nose.tip + 2.6])
        pen.fill(UNIT_CIRCLE * (2.0, 0.75) + at, dark)


def _draw_mouth(pen: FeaturePen, person: Person, expression: Expression) -> None:
    mouth = person.mouth
    colour = np.array(mouth.colour)
    corners = mouth_corners(person, expression)
    along = np.linspace(-1, 1, 17)
    x = along * corners[1, 0]
    sag = (mouth.height - corners[0, 1]) * (1 - along**2)
    line = corners[0, 1] + sag
    gap = 9.0 * expression.open_mouth * (1 - np.abs(along) ** 2.2)
    thin = 1 - 0.25 * expression.smile
    bow = 1 - np.abs(along) ** 1.8 - 0.45 * mouth.bow * np.exp(-((along / 0.16) ** 2))
    top = line - mouth.upper_lip * thin * bow * 1.25
    bottom = line + gap + mouth.lower_lip * thin * (1 - np.abs(along) ** 2.4) * 1.15
    upper_edge, lower_edge = np.stack([x, line], -1), np.stack([x, line + gap], -1)
    if expression.open_mouth > 0.08:
        _draw_inside(pen, upper_edge, lower_edge, expression.open_mouth)
    pen.fill(np.concatenate([np.stack([x, top], -1), upper_edge[::-1]]), colour * 0.84)
    pen.fill(np.concatenate([lower_edge, np.stack([x, bottom], -1)[::-1]]), colour)
    shine = np.stack([x[6:11], (lower_edge[6:11, 1] + bottom[6:11]) / 2], -1)
    pen.line(shine, np.minimum(colour * 1.12 + 14, 255), 1)
    pen.line(upper_edge, colour * 0.42, 1 if expression.open_mouth > 0.08 else 2)


def _draw_inside(pen: FeaturePen, upper: np.ndarray, lower: np.ndarray, opening: float) -> None:
    pen.fill(np.concatenate([upper, lower[::-1]]), np.array([72.0, 22, 24]))
    teeth = upper.copy()
    teeth[:, 1] += np.minimum(2.6, 0.5 * (lower[:, 1] - upper[:, 1]))
    pen.fill(np.concatenate([upper[2:-2], teeth[2:-2][::-1]]), np.array([236.0, 230, 218]))


def _circle(centre: np.ndarray, radius: float) -> np.ndarray:
    return UNIT_CIRCLE * radius + centre
