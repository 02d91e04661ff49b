"""Renders a head map: ray casting and shading.

The camera is orthographic. Rays are intersected with the relief by a coarse march on a small grid,
which is enlarged and then refined by ``REFINE_STEPS`` steps at full size.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from curation.alignment import ARCFACE_POINTS, similarity
from curation.sample.head_map import EXTENT, RELIEF_SIZE, SKIN_SIZE

CANVAS = 168  # images are drawn at one and a half times their final size
PICTURE = 112
COARSE = 56
MARCH_STEPS = 14
REFINE_STEPS = 3
OUTERMOST = 1.36  # no relief exceeds this radius


@dataclass(frozen=True)
class Camera:
    """Maps head pixels to image pixels: ``rotation`` [3, 3], then a 2-D similarity.

    ``similarity`` is [2, 3]: image = similarity[:, :2] @ (x, y) + similarity[:, 2].
    """

    rotation: np.ndarray
    similarity: np.ndarray

    @property
    def scale(self) -> float:
        """Image pixels per head pixel."""
        return float(np.hypot(self.similarity[0, 0], self.similarity[1, 0]))

    def project(self, points: np.ndarray) -> np.ndarray:
        """Image coordinates [N, 2] of head points [N, 3]."""
        turned = np.asarray(points) @ self.rotation.T
        return turned[:, :2] @ self.similarity[:, :2].T + self.similarity[:, 2]


@dataclass(frozen=True)
class Light:
    """Direction towards the key light (camera axes), its colour, and the ambient light."""

    direction: tuple[float, float, float]
    key: tuple[float, float, float]
    ambient: tuple[float, float, float]
    gloss: float


@dataclass(frozen=True)
class Surface:
    """What the camera sees at each canvas pixel, [CANVAS, CANVAS] each."""

    skin_columns: np.ndarray
    skin_rows: np.ndarray
    depth: np.ndarray
    cover: np.ndarray


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation [3, 3] of the head; degrees. Positive yaw turns to the image's right."""
    (sy, sp, sr), (cy, cp, cr) = (
        np.sin(np.radians((yaw, pitch, roll))),
        np.cos(np.radians((yaw, pitch, roll))),
    )
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return tilt @ turn @ nod


def aligned_camera(turn: np.ndarray, landmarks: np.ndarray, jitter: np.ndarray) -> Camera:
    """The camera that best aligns the turned landmarks [5, 3] with the ArcFace template.

    ``jitter`` [5, 2] displaces the landmarks like an imperfect detector.
    """
    seen = (landmarks @ turn.T)[:, :2] + jitter
    return Camera(turn, similarity(seen, np.array(ARCFACE_POINTS)))


def trace(radius: np.ndarray, axes: np.ndarray, camera: Camera) -> Surface:
    """Find where every canvas pixel's ray meets the head with this ``radius`` map."""
    coarse = _Rays.through(COARSE, axes, camera)
    depth = cv2.resize(coarse.march(radius), (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR)
    rays = _Rays.through(CANVAS, axes, camera)
    depth, columns, rows = rays.refine(radius, depth)
    outside = _height(radius, rays.at(rays.nearest))[0]
    pixels = outside * np.float32(axes[0] * camera.scale * CANVAS / PICTURE)
    grow = np.float32(SKIN_SIZE / RELIEF_SIZE)
    shift = np.float32(0.5 * grow - 0.5)
    cover = np.clip(1.0 - pixels, 0.0, 1.0)
    return Surface(columns * grow + shift, rows * grow + shift, depth, cover)


@dataclass(frozen=True)
class _Rays:
    """One ray per pixel in ellipsoid axes: origin [3, H, W] + depth * direction [3].

    ``nearest`` is the depth of the point closest to the head's centre; ``entry`` is the depth at
    which the ray enters the outermost relief.
    """

    origin: np.ndarray
    direction: np.ndarray
    nearest: np.ndarray
    entry: np.ndarray

    @classmethod
    def through(cls, size: int, axes: np.ndarray, camera: Camera) -> "_Rays":
        line = (np.arange(size) + 0.5) * (PICTURE / size) - 0.5
        inverse = np.linalg.inv(camera.similarity[:, :2])
        plane = camera.rotation[:2].T / axes[:, None] @ inverse  # image to ellipsoid axes
        centre = plane @ camera.similarity[:, 2]
        across = (plane[:, :1] * line - centre[:, None]).astype(np.float32)
        down = (plane[:, 1:] * line).astype(np.float32)
        origin = across[:, None, :] + down[:, :, None]
        direction = (camera.rotation[2] / axes).astype(np.float32)
        square = direction @ direction
        nearest = _along(origin, direction) / -square
        closest = _square(origin) - nearest**2 * square
        reach = np.sqrt(np.maximum(np.float32(OUTERMOST**2) - closest, 0) / square)
        return cls(origin, direction, nearest, nearest + reach)

    def at(self, depth: np.ndarray) -> np.ndarray:
        """Points [3, H, W] at ``depth`` [H, W]."""
        return self.origin + depth * self.direction[:, None, None]

    def march(self, radius: np.ndarray) -> np.ndarray:
        """The depth of the first crossing, or of the nearest point if a ray misses."""
        steps = np.linspace(0, 1, MARCH_STEPS, dtype=np.float32)[:, None, None]
        depths = self.entry + steps * (self.nearest - self.entry)
        points = self.origin[:, None] + depths * self.direction[:, None, None, None]
        above = _height(radius, points.reshape(3, -1, COARSE))[0].reshape(depths.shape)
        inside = above <= 0
        inside[-1] = True
        first = np.maximum(inside.argmax(0), 1)[None]
        low = np.take_along_axis(above, first, 0)[0]
        high = np.take_along_axis(above, first - 1, 0)[0]
        fraction = np.clip(high / np.maximum(high - low, 1e-6), 0.0, 1.0)
        at = (first[0].astype(np.float32) - 1 + fraction) / np.float32(MARCH_STEPS - 1)
        return self.entry + at * (self.nearest - self.entry)

    def refine(
        self, radius: np.ndarray, depth: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Depth, relief-map columns and rows of the surface, from an approximate depth."""
        depth = np.clip(depth, self.nearest, self.entry)
        speed = np.float32(0.7) / np.sqrt(self.direction @ self.direction)
        for _ in range(REFINE_STEPS):
            above, columns, rows = _height(radius, self.at(depth))
            depth = np.clip(depth - above * speed, self.nearest, self.entry)
        return depth, columns, rows


def _along(vectors: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Dot product of planar vectors [3, ...] with one direction [3]."""
    return vectors[0] * direction[0] + vectors[1] * direction[1] + vectors[2] * direction[2]


def _square(vectors: np.ndarray) -> np.ndarray:
    return vectors[0] ** 2 + vectors[1] ** 2 + vectors[2] ** 2


def _height(radius: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Height of points [3, H, W] above the relief, and their map columns and rows."""
    norm = np.sqrt(_square(points)) + np.float32(1e-6)
    half = np.float32(0.5 * RELIEF_SIZE)
    scale = np.sqrt(np.float32(2) / np.maximum(norm * (norm + points[2]), np.float32(1e-3)))
    scale *= half / np.float32(EXTENT)
    columns = points[0] * scale + (half - np.float32(0.5))
    rows = points[1] * scale + (half - np.float32(0.5))
    surface = cv2.remap(radius, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return norm - surface, columns, rows


def shade(surface: Surface, skin: np.ndarray, light: Light, camera: Camera) -> np.ndarray:
    """The lit head, [CANVAS, CANVAS, 3] uint8."""
    colour = cv2.remap(
        skin, surface.skin_columns, surface.skin_rows, cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    normals = _normals(surface.depth, camera)
    towards = np.array(light.direction) / np.linalg.norm(light.direction)
    halfway = towards + np.array([0.0, 0.0, 1.0])
    halfway /= np.linalg.norm(halfway)
    lit = np.clip(_along(normals, towards.astype(np.float32)) * 0.8 + 0.2, 0.0, 1.0)
    around = (0.72 - 0.28 * normals[1]) * (0.55 + 0.45 * normals[2])
    mirror = np.maximum(_along(normals, halfway.astype(np.float32)), 0.0) ** 2
    for _ in range(3):  # to the sixteenth power; numpy's own power is slow
        mirror *= mirror
    shine = mirror * lit * (255.0 * light.gloss)
    bleeding = 0.10 * lit * (1.0 - lit)  # subsurface scattering: skin glows red where light fades
    planes = []
    for channel, plane in enumerate(cv2.split(colour)):
        level = lit * light.key[channel] + around * light.ambient[channel]
        if channel == 0:
            level += bleeding
        planes.append(plane * level + shine * light.key[channel])
    return cv2.convertScaleAbs(cv2.merge(planes))


def _normals(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Unit normals [3, H, W] in camera axes from the slope of the depth."""
    smooth = cv2.GaussianBlur(depth, (0, 0), 0.9)
    pixel = PICTURE / (CANVAS * camera.scale)  # head pixels per canvas pixel
    slope_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=1.0 / (8.0 * pixel))
    slope_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=1.0 / (8.0 * pixel))
    inverse = 1.0 / np.sqrt(slope_x**2 + slope_y**2 + 1.0)
    return np.stack([-slope_x * inverse, -slope_y * inverse, inverse])
