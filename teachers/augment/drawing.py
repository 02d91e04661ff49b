"""The random changes of a view, as a function of (strengths, seed, image, number).

The random numbers are hashes instead of a library's generator: a view must be equal on every
machine and in every version, because the teacher's embedding of it is stored.
"""

from typing import NamedTuple

import numpy as np

from teachers.augment.formulas import NORMAL_SIDE, colour_matrices, gamma_tables, motions
from teachers.augment.strengths import Strengths

_GOLDEN = 0x9E3779B97F4A7C15
_DRAWS = 32
"""Draws per view. Each index has a permanent meaning; new features use free ones."""
_COIN = 1 << 40
"""Replaces the number of a view in draws about the image itself."""


def hashes(*keys: np.ndarray | int) -> np.ndarray:
    """uint64 [n] hashes of broadcast integers: splitmix64's finaliser, chained.

    Source: Steele et al., Fast splittable pseudorandom number generators, 2014.
    """
    state = np.zeros(1, np.uint64)
    for key in keys:
        # Arrays wrap around, as intended; NumPy warns about scalars that do.
        state = _mixed((state ^ np.atleast_1d(key).astype(np.uint64)) + np.uint64(_GOLDEN))
    return state


def _mixed(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def uniform(bits: np.ndarray) -> np.ndarray:
    """float64 in [0, 1) from ``hashes``."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Change(NamedTuple):
    """The changes that make a view of one image; None or 0 for a change that does not apply.

    ``motion`` float64 [2, 3], ``colours`` float64 [3, 4] and ``gamma`` uint8 [256] are defined in
    ``formulas``; ``box`` is (top, left, height, width). ``partner`` is the position in the data set
    of the image that is blended in with ``partner_weight``; -1 for none.
    """

    mirrored: bool
    motion: np.ndarray | None
    colours: np.ndarray | None
    gamma: np.ndarray | None
    sigma: float
    height: int
    quality: int
    box: tuple[int, int, int, int] | None
    box_colour: np.ndarray
    partner: int
    partner_weight: float


NO_CHANGE = Change(False, None, None, None, 0.0, 0, 0, None, np.zeros(3, np.uint8), -1, 0.0)


def are_mirrored(seed: int, rows: np.ndarray, numbers: np.ndarray | int) -> np.ndarray:
    """bool [n]: every other view of an image is mirrored, starting with the first or the second."""
    coins = hashes(seed, rows, _COIN) & np.uint64(1)
    return (coins + np.asarray(numbers).astype(np.uint64)) & np.uint64(1) == 1


def are_mixed(strengths: Strengths, rows: np.ndarray, numbers: np.ndarray | int) -> np.ndarray:
    """bool [n]: which views are blended with another image."""
    return _draws(strengths.seed, rows, numbers, [_MIX])[:, 0] < strengths.mix


_CROP, _SHIFT, _SCALE, _ROTATION = 0, slice(1, 3), 3, 4
_TONE, _BRIGHTNESS, _CONTRAST, _GAMMA, _SATURATION, _GAINS = 5, 6, 7, 8, 9, slice(10, 13)
_GREY, _BLUR, _COARSE, _JPEG = 13, slice(14, 16), slice(16, 18), slice(18, 20)
_ERASE, _MIX, _PARTNER, _WEIGHT = slice(20, 28), 28, 29, 30


def _draws(
    seed: int, rows: np.ndarray, numbers: np.ndarray | int, places: list[int] | None = None
) -> np.ndarray:
    """float64 [n, places] in [0, 1)."""
    chosen = np.arange(_DRAWS) if places is None else np.array(places)
    keys = hashes(seed, rows, numbers)
    return uniform(hashes(keys[:, None], chosen))


def draw(
    strengths: Strengths,
    rows: np.ndarray,
    numbers: np.ndarray | int,
    size: tuple[int, int],
    images: int,
) -> list[Change]:
    """The changes of the views ``numbers`` (int64 [n] or one) of the images ``rows`` (int64 [n]).

    ``rows`` index the store. ``size`` is (height, width) of the images, ``images`` the number of
    images in the data set.
    """
    u = _draws(strengths.seed, rows, numbers)
    mirrored = are_mirrored(strengths.seed, rows, numbers)
    colours, gamma = _tones(strengths, u)
    boxes, box_colours = _boxes(strengths, u[:, _ERASE], size)
    partners = np.where(u[:, _MIX] < strengths.mix, (u[:, _PARTNER] * images).astype(np.int64), -1)
    return [
        Change(*each)
        for each in zip(
            mirrored.tolist(),
            _motions(strengths, u, mirrored, size),
            colours,
            gamma,
            _sigmas(strengths, u[:, _BLUR], size[0]).tolist(),
            _heights(strengths, u[:, _COARSE], size[0]).tolist(),
            _qualities(strengths, u[:, _JPEG]).tolist(),
            boxes,
            box_colours,
            partners.tolist(),
            (0.5 * u[:, _WEIGHT]).tolist(),
            strict=True,
        )
    ]


def _either_way(u: np.ndarray) -> np.ndarray:
    """Map [0, 1] to [-1, 1]."""
    return 2.0 * u - 1.0


def _where(done: np.ndarray, values: np.ndarray) -> list[np.ndarray | None]:
    """The elements of ``values`` [n, ...], replaced by None where ``done`` [n] is false."""
    return [value if one else None for value, one in zip(values, done.tolist(), strict=True)]


def _motions(
    strengths: Strengths, u: np.ndarray, mirrored: np.ndarray, size: tuple[int, int]
) -> list[np.ndarray | None]:
    crop, either = strengths.crop, _either_way(u)
    shift = crop.shift * either[:, _SHIFT] * np.array([size[1], size[0]])
    scale, rotation = 1.0 + crop.scale * either[:, _SCALE], crop.rotation * either[:, _ROTATION]
    found = motions(size, shift, scale, rotation, mirrored)
    return _where(u[:, _CROP] < crop.share, found)


def _tones(
    strengths: Strengths, u: np.ndarray
) -> tuple[list[np.ndarray | None], list[np.ndarray | None]]:
    """Colour matrices and gamma tables."""
    tone, either = strengths.tone, _either_way(u)
    done, grey = u[:, _TONE] < tone.share, u[:, _GREY] < strengths.grey
    either = np.where(done[:, None], either, 0.0)
    saturation = np.where(grey, 0.0, 1.0 + tone.colour * either[:, _SATURATION])
    matrices = colour_matrices(
        tone.brightness * either[:, _BRIGHTNESS],
        1.0 + tone.contrast * either[:, _CONTRAST],
        saturation,
        1.0 + 0.25 * tone.colour * either[:, _GAINS],
    )
    tables = gamma_tables(np.exp(tone.gamma * either[done, _GAMMA]))
    every = np.empty((len(u), 256), np.uint8)
    every[done] = tables
    return _where(done | grey, matrices), _where(done, every)


def _sigmas(strengths: Strengths, u: np.ndarray, height: int) -> np.ndarray:
    """float64 [n]: 0 for images without blur."""
    sigmas = strengths.blur.sigma * u[:, 1] * height / NORMAL_SIDE
    return np.where(u[:, 0] < strengths.blur.share, sigmas, 0.0)


def _heights(strengths: Strengths, u: np.ndarray, full: int) -> np.ndarray:
    """int64 [n]: 0 for images that keep their resolution.

    Uniform on a logarithmic scale: 112 to 56 pixels is as likely as 56 to 28.
    """
    least = min(strengths.low_resolution.pixels, full)
    heights = np.rint(least * (full / least) ** u[:, 1]).astype(np.int64)
    return np.where(u[:, 0] < strengths.low_resolution.share, heights, 0)


def _qualities(strengths: Strengths, u: np.ndarray) -> np.ndarray:
    """int64 [n]: 0 for images that are not compressed."""
    least = strengths.jpeg.quality
    qualities = least + (u[:, 1] * (96 - least)).astype(np.int64)
    return np.where(u[:, 0] < strengths.jpeg.share, qualities, 0)


def _boxes(
    strengths: Strengths, u: np.ndarray, size: tuple[int, int]
) -> tuple[list[tuple[int, int, int, int] | None], np.ndarray]:
    """The boxes, and their fill colours uint8 [n, 3]."""
    height, width = size
    tall = 1 + (u[:, 1] * strengths.erase.side * (height - 1)).astype(np.int64)
    wide = 1 + (u[:, 2] * strengths.erase.side * (width - 1)).astype(np.int64)
    top = (u[:, 3] * (height - tall + 1)).astype(np.int64)
    left = (u[:, 4] * (width - wide + 1)).astype(np.int64)
    done = (u[:, 0] < strengths.erase.share).tolist()
    corners = zip(top.tolist(), left.tolist(), tall.tolist(), wide.tolist(), strict=True)
    boxes = [box if one else None for box, one in zip(corners, done, strict=True)]
    return boxes, (256 * u[:, 5:8]).astype(np.uint8)
