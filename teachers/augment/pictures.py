"""Changes of one picture, uint8 RGB [H, W, 3], as pure functions that leave it as it is.

They run on the loader's threads; OpenCV releases the interpreter lock.
"""

import math

import cv2
import numpy as np
import simplejpeg

NORMAL_SIDE = 112
"""The height at which a blur of one pixel is one pixel."""
_SMALLEST_SIGMA = 0.2
"""A narrower kernel has a single weight."""
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


def moved(picture: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The picture whose place (x, y) shows ``source @ (x, y, 1)``; mirrored over its borders."""
    # With a fourth channel it takes half the time, also with the copies.
    with_alpha = cv2.warpAffine(
        cv2.cvtColor(picture, cv2.COLOR_RGB2RGBA),
        source,
        (picture.shape[1], picture.shape[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return cv2.cvtColor(with_alpha, cv2.COLOR_RGBA2RGB)


def mirror(picture: np.ndarray) -> np.ndarray:
    """Left for right."""
    return cv2.flip(picture, 1)


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


def recoloured(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Every pixel (r, g, b) replaced by ``matrix @ (r, g, b, 1)``, rounded, 0 to 255."""
    return cv2.transform(picture, matrix)


def gamma_tables(gamma: np.ndarray) -> np.ndarray:
    """uint8 [n, 256]: each value, on the scale 0 to 1, to the power of ``gamma`` [n]."""
    powers = np.exp(gamma.astype(np.float32)[:, None] * _LOGARITHMS)
    return np.rint(255 * powers).astype(np.uint8)


def toned(picture: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Every value replaced by that of a ``table`` uint8 [256]."""
    return cv2.LUT(picture, table)


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """With a Gaussian of ``sigma`` pixels; as it is where that is next to nothing."""
    if sigma < _SMALLEST_SIGMA:
        return picture
    side = 2 * math.ceil(2 * sigma) + 1  # two deviations to each side are 95 % of it
    return cv2.GaussianBlur(picture, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101)


def coarsened(picture: np.ndarray, height: int) -> np.ndarray:
    """Brought down to that height and up again, if it is higher.

    Down by averaging over a box as large as the new pixels are, up bilinearly.
    """
    full, width = picture.shape[:2]
    if height >= full:
        return picture
    box = round(full / height)
    averaged = cv2.blur(picture, (box, box), borderType=cv2.BORDER_REFLECT_101)
    small = cv2.resize(averaged, (max(1, round(width * height / full)), height))
    return cv2.resize(small, (width, full))


def recompressed(picture: np.ndarray, quality: int) -> np.ndarray:
    """What a JPEG file of that quality keeps of it."""
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality, "RGB", "420")
    return simplejpeg.decode_jpeg(data, "RGB")


def erased(
    picture: np.ndarray, top: int, left: int, height: int, width: int, colour: np.ndarray
) -> np.ndarray:
    """With a box filled with ``colour`` uint8 [3]."""
    covered = picture.copy()
    covered[top : top + height, left : left + width] = colour
    return covered


def blended(picture: np.ndarray, other: np.ndarray, weight: float) -> np.ndarray:
    """``weight`` of the ``other`` picture, and the rest of this one."""
    return cv2.addWeighted(picture, 1.0 - weight, other, weight, 0.0)
