"""Changes of one picture, uint8 RGB [H, W, 3], as pure functions that leave it as it is.

They run on the loader's threads; OpenCV releases the interpreter lock.
"""

import math

import cv2
import numpy as np
import simplejpeg

from teachers.augment.drawing import Change

_SMALLEST_SIGMA = 0.2
"""A narrower kernel has a single weight."""


def changed(picture: np.ndarray, change: Change, partner: np.ndarray | None) -> np.ndarray:
    """The view of ``picture`` uint8 RGB [H, W, 3]; ``partner`` is blended in where there is one."""
    if change.motion is not None:
        picture = moved(picture, change.motion)
    elif change.mirrored:
        picture = mirror(picture)
    if change.colours is not None:
        picture = recoloured(picture, change.colours)
    if change.gamma is not None:
        picture = toned(picture, change.gamma)
    if change.sigma:
        picture = blurred(picture, change.sigma)
    if change.height:
        picture = coarsened(picture, change.height)
    if change.quality:
        picture = recompressed(picture, change.quality)
    if change.box is not None:
        picture = erased(picture, *change.box, change.box_colour)
    if partner is not None:
        picture = blended(picture, partner, change.partner_weight)
    return picture


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


def recoloured(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Every pixel (r, g, b) replaced by ``matrix @ (r, g, b, 1)``, rounded, 0 to 255."""
    return cv2.transform(picture, matrix)


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
