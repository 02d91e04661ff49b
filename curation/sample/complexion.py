"""The skin of a person on the head map, which is the same in all photographs."""

import cv2
import numpy as np

from curation.sample.hair import beard_mask, hair_colour_map
from curation.sample.head_map import (
    FRACTION_BITS,
    RELIEF_SIZE,
    SKIN_SIZE,
    front_grid,
    front_to_skin,
)
from curation.sample.person import Person
from curation.sample.relief import head_axes


def skin_map(person: Person, hair_mask: np.ndarray) -> np.ndarray:
    """Skin, beard, marks and hair, [SKIN_SIZE, SKIN_SIZE, 3] uint8 RGB, without eyes and mouth.

    ``hair_mask`` is [SKIN_SIZE, SKIN_SIZE] uint8.
    """
    rng = np.random.default_rng(person.marks.texture_seed)
    skin = _flesh(person, rng)
    skin = np.clip(skin, 0, 255).astype(np.uint8)
    _draw_marks(skin, person, rng)
    return _grow(skin, person, hair_mask, rng)


def _flesh(person: Person, rng: np.random.Generator) -> np.ndarray:
    """Skin colour with shadows in the folds and reddened areas, float32."""
    x, y, front = front_grid(RELIEF_SIZE, head_axes(person))
    shade = 1.0 - front * _folds(person, x, y)
    red = front * _redness(person, x, y)
    mottled = rng.standard_normal((24, 24)).astype(np.float32)
    shade += 0.018 * cv2.resize(mottled, (RELIEF_SIZE, RELIEF_SIZE), interpolation=cv2.INTER_CUBIC)
    tint = np.stack([shade * (1 + 0.04 * red), shade * (1 - 0.13 * red), shade * (1 - 0.10 * red)])
    colour = np.moveaxis(tint, 0, -1).astype(np.float32) * np.array(person.skin, np.float32)
    colour = cv2.resize(colour, (SKIN_SIZE, SKIN_SIZE), interpolation=cv2.INTER_LINEAR)
    pores = rng.standard_normal((SKIN_SIZE // 2, SKIN_SIZE // 2)).astype(np.float32)
    pores = cv2.resize(pores, (SKIN_SIZE, SKIN_SIZE), interpolation=cv2.INTER_LINEAR)
    return colour * (1.0 + 0.016 * pores[..., None])


def _folds(person: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How much darker the skin is where little light reaches, 0 to about 0.4."""
    side, nose, mouth = np.abs(x), person.nose, person.mouth
    sockets = 2.2 * person.eyes.depth * _spot(side - person.eyes.spacing + 2, y + 1.5, 8.5, 5.0)
    under_eye = 0.10 * _spot(side - person.eyes.spacing + 1, y - 5.5, 6.0, 1.8)
    under_nose = 0.20 * _spot(x, y - nose.tip - 4.0, nose.half_width * 0.9, 2.2)
    beside_nose = 0.13 * _spot(side - nose.half_width - 1.5, y - nose.tip + 0.5, 1.6, 4.0)
    under_lip = 0.16 * _spot(x, y - mouth.height - mouth.lower_lip - 3.0, 8.0, 1.9)
    fold_x = nose.half_width + 2.5 + 0.42 * np.clip(y - nose.tip, 0, None)
    fold = _spot(side - fold_x, y - 0.5 * (nose.tip + mouth.height) - 1, 1.5, 7.0)
    jaw_line = 0.25 * np.clip((y - 50.0) / 16.0, 0, 1) * np.clip((side - 4) / 20, 0, 1)
    deep = (0.06 + 0.17 * person.marks.wrinkles) * fold
    return sockets + under_eye + under_nose + beside_nose + under_lip + deep + jaw_line


def _redness(person: Person, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    side, blush = np.abs(x), 0.4 + person.marks.blush
    cheeks = 1.3 * blush * _spot(side - 25.0, y - 20.0, 9.0, 8.0)
    nose = 0.9 * blush * _spot(x, y - person.nose.tip, person.nose.half_width, 5.0)
    return cheeks + nose + 0.4 * _spot(x, y - 56.0, 12.0, 6.0) + 0.6 * np.clip(side - 42, 0, 1)


def _draw_marks(skin: np.ndarray, person: Person, rng: np.random.Generator) -> None:
    axes, base = head_axes(person), np.array(person.skin)
    for _ in range(person.marks.freckles):
        x, y = rng.normal(0, 19), rng.normal(14, 8)
        _dot(skin, (x, y), rng.uniform(0.4, 0.9), base * (0.80, 0.68, 0.60), axes)
    for x, y, radius in person.marks.moles:
        _dot(skin, (x, y), radius, base * 0.35 + (18, 8, 4), axes)
    if person.marks.scar is not None:
        _line(skin, np.array(person.marks.scar), base * 0.6 + (100, 70, 70), axes, 2)
    if person.marks.wrinkles > 0.15:
        _draw_wrinkles(skin, person, axes)


def _draw_wrinkles(skin: np.ndarray, person: Person, axes: np.ndarray) -> None:
    drawn = skin.copy()
    dark = np.array(person.skin) * (0.62, 0.52, 0.48)
    across = np.linspace(-1, 1, 15)
    for level, half in ((-20.0, 18.0), (-25.5, 22.0), (-31.0, 19.0)):
        curve = np.stack([half * across, level + 1.8 * across**2 + 0.5 * np.sin(7 * across)], -1)
        _line(drawn, curve, dark, axes, 1)
    outer = person.eyes.spacing + person.eyes.half_length + 1.5
    for side in (-1, 1):
        for slope in (-0.5, 0.05, 0.55):
            _line(
                drawn, np.array([[outer, slope], [outer + 6, slope * 7]]) * (side, 1), dark, axes, 1
            )
        _line(drawn, np.array([[2.2, -10.0], [1.8, -5.0]]) * (side, 1), dark, axes, 1)
    soft = cv2.GaussianBlur(drawn, (0, 0), 0.8)
    cv2.addWeighted(soft, person.marks.wrinkles, skin, 1 - person.marks.wrinkles, 0, dst=skin)


def _grow(
    skin: np.ndarray, person: Person, hair_mask: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw beard and hair over the skin."""
    hair = hair_colour_map(person.hair, rng)
    density = hair_mask.astype(np.float32) / 255.0
    if person.hair.style in ("buzz", "bald"):
        density *= 0.75
    if person.hair.beard != "none":
        x, y, front = front_grid(SKIN_SIZE, head_axes(person))
        grain = np.float32(0.6) + np.float32(0.55) * rng.random(x.shape, np.float32)
        beard = beard_mask(person.hair.beard, x, y, person.mouth.height) * front * grain
        density = np.maximum(density, np.clip(beard, 0, 1))
    blended = skin + (hair - skin) * density[..., None]
    return np.clip(blended, 0, 255).astype(np.uint8)


def _spot(dx: np.ndarray, dy: np.ndarray, sigma_x: float, sigma_y: float) -> np.ndarray:
    return np.exp(-0.5 * ((dx / sigma_x) ** 2 + (dy / sigma_y) ** 2))


def _dot(
    image: np.ndarray, at: tuple[float, float], radius: float, colour: np.ndarray, axes: np.ndarray
) -> None:
    """A filled circle; ``radius`` in front-view pixels."""
    circle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    ring = np.stack([np.cos(circle), np.sin(circle)], -1) * radius + at
    cv2.fillPoly(image, [front_to_skin(ring, axes)], colour.tolist(), cv2.LINE_AA, FRACTION_BITS)


def _line(
    image: np.ndarray, points: np.ndarray, colour: np.ndarray, axes: np.ndarray, width: int
) -> None:
    places = front_to_skin(points, axes)
    cv2.polylines(image, [places], False, colour.tolist(), width, cv2.LINE_AA, FRACTION_BITS)
