"""The numbers behind the changes of pictures, for n pictures at once."""

import numpy as np

NORMAL_SIDE = 112
"""The height at which a blur of one pixel is one pixel."""
LUMA = np.array([0.299, 0.587, 0.114])
"""Of ITU-R BT.601, as in JPEG."""
_LOGARITHMS = np.log(np.maximum(np.arange(256, dtype=np.float32) / 255, np.float32(1e-9)))
"""Of all values; a power of 0 is 0 within a thousandth of a step."""


def motions(
    size: tuple[int, int],
    shift: np.ndarray,
    scale: np.ndarray,
    rotation: np.ndarray,
    mirrored: np.ndarray,
) -> np.ndarray:
    """float64 [n, 2, 3]: which place (x, y) of a picture of (height, width) is shown at each place.

    A picture is first mirrored, where ``mirrored`` [n] is true, then made ``scale`` [n] times as
    large and turned by ``rotation`` [n] degrees (counter-clockwise as it is seen) about its centre,
    then moved by ``shift`` [n, 2] pixels (right, down).
    """
    height, width = size
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    angle = np.deg2rad(rotation)
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    side = np.where(mirrored, -1.0, 1.0)
    # In pictures y grows downwards, so this turns the other way, as the way back has to.
    back = np.stack([side * cosine, -side * sine, sine, cosine], axis=-1).reshape(-1, 2, 2)
    offset = centre - np.einsum("nij,nj->ni", back, centre + shift)
    return np.concatenate([back, offset[:, :, None]], axis=2)


def colour_matrices(
    brightness: np.ndarray, contrast: np.ndarray, saturation: np.ndarray, gains: np.ndarray
) -> np.ndarray:
    """float64 [n, 3, 4]: what becomes of a pixel (r, g, b, 1), on the scale 0 to 255.

    Each channel comes nearer to the luma, or farther from it, by ``saturation`` [n]; then it is
    multiplied by its ``gains`` [n, 3], spread by ``contrast`` [n] about the middle, and made
    lighter by ``brightness`` [n], a share of white.
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
