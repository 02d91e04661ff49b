"""Hair and beard: where they grow on the head map, and how they look."""

import cv2
import numpy as np

from curation.sample.head_map import FRACTION_BITS, SKIN_SIZE, to_map
from curation.sample.person import Hair, HeadShape

# Hairlines as (degrees to the side, degrees above the eyes), from the middle of the forehead to
# behind the ear.
HAIRLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "bald": ((0, 88), (60, 84), (85, 24), (100, 12), (115, -20), (150, -35)),
    "buzz": ((0, 43), (28, 45), (42, 36), (56, 30), (66, 4), (84, 2), (100, -12), (150, -38)),
    "short": ((0, 40), (25, 41), (42, 34), (56, 26), (64, -4), (84, -6), (100, -16), (150, -40)),
    "receding": ((0, 47), (16, 52), (34, 62), (52, 40), (66, 2), (84, 0), (100, -14), (150, -38)),
    "parted": ((0, 40), (25, 34), (42, 26), (54, 18), (63, -6), (84, -8), (100, -18), (150, -40)),
    "fringe": ((0, 19), (24, 18), (42, 15), (54, 8), (63, -10), (84, -14), (100, -26), (150, -45)),
    "curly": ((0, 34), (25, 32), (42, 24), (56, 12), (64, -10), (84, -14), (100, -26), (150, -45)),
    "long": ((0, 42), (20, 34), (38, 22), (50, 4), (55, -22), (58, -50), (66, -82), (150, -84)),
    "bob": ((0, 20), (24, 18), (40, 14), (49, 0), (54, -22), (60, -38), (84, -48), (150, -50)),
}
ASYMMETRIC = ("parted", "long")
OVER_EARS = ("long", "bob", "curly")


def ear_place(face: HeadShape) -> tuple[tuple[float, float], tuple[float, float]]:
    """Centre and radii of an ear as (down, towards the camera), in semi-axes of the head."""
    return (0.07, 0.10), (0.016 * face.ear_size, 0.013 * face.ear_size)


def hairline_mask(hair: Hair, face: HeadShape) -> np.ndarray:
    """The hair mask on the head map: [SKIN_SIZE, SKIN_SIZE] uint8, 0 to 255."""
    longitude = np.linspace(-150, 150, 61)
    places, heights = np.array(HAIRLINES[hair.style], np.float64).T
    latitude = np.interp(np.abs(longitude), places, heights)
    front = np.exp(-((longitude / 45) ** 2))
    latitude = latitude + 0.9 * hair.hairline * front
    if hair.style in ASYMMETRIC:
        latitude += 9.0 * hair.parting * np.tanh(longitude / 18) * front
    if hair.style == "curly":
        latitude += 2.5 * np.sin(longitude * 0.55 + 5 * hair.parting)
    boundary = to_map(_sphere(longitude, np.minimum(latitude, 88.0)), SKIN_SIZE)
    corners = np.array([[2.0, 1.2], [2.0, -1.0], [-1.0, -1.0], [-1.0, 1.2]]) * SKIN_SIZE
    outline = np.concatenate([boundary, corners])
    mask = np.zeros((SKIN_SIZE, SKIN_SIZE), np.uint8)
    points = np.round(outline * (1 << FRACTION_BITS)).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, FRACTION_BITS)
    if hair.style not in OVER_EARS:
        _clear_ears(mask, face)
    soft = 3.5 if hair.style in ("buzz", "receding", "bald") else 1.3
    return cv2.GaussianBlur(mask, (0, 0), soft)


def _clear_ears(mask: np.ndarray, face: HeadShape) -> None:
    (down, front), (high, deep) = ear_place(face)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    y, z = down + 0.95 * high * np.sin(angle), front + 0.95 * deep * np.cos(angle)
    x = np.sqrt(1.0 - y**2 - z**2)
    for side in (-1.0, 1.0):
        ring = to_map(np.stack([side * x, y, z], -1), SKIN_SIZE)
        points = np.round(ring * (1 << FRACTION_BITS)).astype(np.int32)
        cv2.fillPoly(mask, [points], 0, cv2.LINE_AA, FRACTION_BITS)


def hair_colour_map(hair: Hair, rng: np.random.Generator) -> np.ndarray:
    """Strands in the hair's colour, [SKIN_SIZE, SKIN_SIZE, 3] float32."""
    strands = _curls(rng) if hair.style in ("curly", "buzz") else _strands(hair, rng)
    light = 1.0 + strands[..., None] * np.float32(0.30)
    return np.array(hair.colour, np.float32) * light + strands[..., None] * np.float32(10.0)


def beard_mask(beard: str, x: np.ndarray, y: np.ndarray, mouth_height: float) -> np.ndarray:
    """The density of a beard, 0 to 1, at front-view coordinates ``x``, ``y`` in pixels."""
    if beard == "none":
        return np.zeros_like(x)
    side = np.abs(x)
    lip = mouth_height - 6.0
    moustache = _ramp(14.0 - side, 3.0) * _ramp(y - (lip - 3.2 + 0.010 * side**2), 1.2)
    moustache = moustache * _ramp(mouth_height + 0.12 * side - y, 2.0)
    chin = _ramp(15.0 - side, 3.0) * _ramp(y - (mouth_height + 7.5), 1.5)
    jaw = _ramp(y - (mouth_height + 5.0 - 0.0175 * side**2), 8.0) * _ramp(y - 4.0, 8.0)
    around = _ramp(np.hypot(side / 17.0, (y - mouth_height) / 8.5) - 1.0, 0.15) * jaw
    masks = {
        "stubble": 0.42 * np.maximum(around, moustache),
        "moustache": 0.95 * moustache,
        "goatee": 0.92 * np.maximum(moustache, chin),
        "full": 0.95 * np.maximum(around, moustache),
    }
    return masks[beard]


def _sphere(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    lon, lat = np.radians(longitude), np.radians(latitude)
    return np.stack([np.sin(lon) * np.cos(lat), -np.sin(lat), np.cos(lon) * np.cos(lat)], axis=-1)


def _strands(hair: Hair, rng: np.random.Generator) -> np.ndarray:
    """Noise that runs outwards from the parting, about -1 to 1."""
    around = rng.standard_normal((360, 4)).astype(np.float32) * np.float32(0.55)
    size = SKIN_SIZE // 2
    strip = cv2.resize(around, (size, 720), interpolation=cv2.INTER_CUBIC)
    centre = (size * (0.5 + 0.12 * hair.parting), size * 0.16)
    flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS
    strands = cv2.warpPolar(strip, (size, size), centre, float(size), flags)
    return cv2.resize(strands, (SKIN_SIZE, SKIN_SIZE), interpolation=cv2.INTER_LINEAR)


def _curls(rng: np.random.Generator) -> np.ndarray:
    noise = rng.standard_normal((SKIN_SIZE // 5, SKIN_SIZE // 5)).astype(np.float32)
    return cv2.resize(noise * 0.6, (SKIN_SIZE, SKIN_SIZE), interpolation=cv2.INTER_CUBIC)


def _ramp(value: np.ndarray, width: float) -> np.ndarray:
    return np.clip(value / width + 0.5, 0.0, 1.0)
