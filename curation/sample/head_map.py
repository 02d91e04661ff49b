"""The flat map of a head: every direction from its centre has one place on a square image.

The map is Lambert's azimuthal equal-area projection centred on the face. A head is a radius (its
relief) and a colour (its skin) for each place of the map. A photograph follows each pixel's ray to
the surface and samples the map there.

Head axes: x to the right of the image, y down, z towards the camera. A *direction* is a unit
vector after division by the semi-axes of the head's ellipsoid; (0, 0, 1) is the middle between the
eyes.
"""

from functools import lru_cache

import numpy as np

EXTENT = 1.85  # radius sqrt(2) is 90 degrees away from the front; 1.85 is 135 degrees
RELIEF_SIZE = 160
SKIN_SIZE = 352
FRACTION_BITS = 4  # cv2 draws polygons at subpixel places given as fixed-point integers


def to_map(directions: np.ndarray, size: int) -> np.ndarray:
    """Map coordinates [..., 2] in pixels (column, row) of directions [..., 3] of any length."""
    norm = np.linalg.norm(directions, axis=-1, keepdims=True)
    unit = directions / norm
    plane = unit[..., :2] * np.sqrt(2.0 / np.maximum(1.0 + unit[..., 2:], 1e-3))
    return (plane / EXTENT + 1.0) * (0.5 * size) - 0.5


def front_to_direction(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Directions [..., 3] of front-view points [..., 2] on the ellipsoid, in pixels."""
    plane = np.asarray(points, np.float64) / axes[:2]
    length = np.linalg.norm(plane, axis=-1, keepdims=True)
    plane = plane * np.minimum(1.0, 0.995 / np.maximum(length, 1e-9))
    depth = np.sqrt(1.0 - (plane**2).sum(-1, keepdims=True))
    return np.concatenate([plane, depth], axis=-1)


def front_to_skin(points: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Front-view points [N, 2] in pixels as fixed-point skin-map coordinates for cv2's polygons."""
    x, y = points[:, 0] / axes[0], points[:, 1] / axes[1]
    depth = np.sqrt(np.maximum(1.0 - x * x - y * y, 0.01))
    half = 0.5 * SKIN_SIZE
    scale = np.sqrt(2.0 / (1.0 + depth)) * (half / EXTENT)
    places = np.empty((len(points), 2))
    places[:, 0], places[:, 1] = x * scale, y * scale
    return np.rint((places + (half - 0.5)) * (1 << FRACTION_BITS)).astype(np.int32)


@lru_cache(maxsize=4)
def map_directions(size: int) -> np.ndarray:
    """The direction [size, size, 3] of every place of a map, float32, read-only."""
    line = ((np.arange(size) + 0.5) / (0.5 * size) - 1.0) * EXTENT
    x, y = np.meshgrid(line, line)
    square = np.minimum(x**2 + y**2, 4.0)
    scale = np.sqrt(1.0 - square / 4.0)
    directions = np.stack([x * scale, y * scale, 1.0 - square / 2.0], axis=-1).astype(np.float32)
    directions.flags.writeable = False
    return directions


def front_grid(size: int, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every place of a map: front-view x and y in pixels, and how frontal it is (0 to 1)."""
    directions = map_directions(size)
    x, y = directions[..., 0] * np.float32(axes[0]), directions[..., 1] * np.float32(axes[1])
    return x, y, np.clip(directions[..., 2] * 3.0 + 0.6, 0.0, 1.0)
