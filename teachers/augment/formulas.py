"""The formulas of image changes, for n images at once."""

import numpy as np

NORMAL_SIDE = 112
"""The height at which the units of blur are pixels"""
LUMA = np.array([0.299, 0.587, 0.114])
"""Luma of ITU-R BT.601, as in JPEG"""
_LOGARITHMS = np.log(np.maximum(np.arange(256, dtype=np.float32) / 255, np.float32(1e-9)))
"""Logarithms of all pixel values; a power of 0 is 0 within a thousandth of a step"""


def motions(
    size: tuple[int, int],
    shift: np.ndarray,
    scale: np.ndarray,
    rotation: np.ndarray,
    mirrored: np.ndarray,
) -> np.ndarray:
    """float64 [n, 2, 3]: the source (x, y), in an image of (height, width), of each target (x, y).

    An image is first mirrored if ``mirrored`` [n], then scaled by ``scale`` [n] and rotated by
    ``rotation`` [n] degrees (counter-clockwise as displayed) about its centre, then moved by
    ``shift`` [n, 2] pixels (right, down).
    """
    height, width = size
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    angle = np.deg2rad(rotation)
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    side = np.where(mirrored, -1.0, 1.0)
    # y points down, which reverses the rotation, as the inverse map requires.
    back = np.stack([side * cosine, -side * sine, sine, cosine], axis=-1).reshape(-1, 2, 2)
    offset = centre - np.einsum("nij,nj->ni", back, centre + shift)
    return np.concatenate([back, offset[:, :, None]], axis=2)


def colour_matrices(
    brightness: np.ndarray, contrast: np.ndarray, saturation: np.ndarray, gains: np.ndarray
) -> np.ndarray:
    """float64 [n, 3, 4]: the map of a pixel (r, g, b, 1), on the scale 0 to 255.

    ``saturation`` [n] moves each channel away from the luma (above 1) or towards it. Each channel
    is then multiplied by its ``gains`` [n, 3], contrast is scaled by ``contrast`` [n] about the
    middle, and ``brightness`` [n], a share of white, is added.
    """
    keep = saturation[:, None, None]
    mixed = keep * np.eye(3) + (1 - keep) * LUMA
    linear = (contrast[:, None] * gains)[:, :, None] * mixed
    offset = 255 * (brightness + 0.5 * (1 - contrast))
    return np.concatenate([linear, np.repeat(offset[:, None, None], 3, axis=1)], axis=2)


def gamma_tables(gamma: np.ndarray) -> np.ndarray:
    """uint8 [n, 256]: each value, on the scale 0 to 1, to the power of ``gamma`` [n]."""
    powers = np.exp(gamma.astype(np.float32)[:, None] * _LOGARITHMS)
    return np.rint(255 * powers).astype(np.uint8)
