"""One photograph of a head: pose, light, expression, occlusion, and the camera's faults."""

from dataclasses import dataclass

import cv2
import numpy as np

from curation.sample.accessories import OCCLUSIONS, Occlusion, hold_before_face, wear_on_head
from curation.sample.backdrop import draw_backdrop
from curation.sample.features import Expression, FeaturePen, draw_features
from curation.sample.head import Head
from curation.sample.person import Colour
from curation.sample.render import (
    PICTURE,
    Light,
    aligned_camera,
    rotation,
    shade,
    trace,
)

OCCLUSION_COLOURS: tuple[Colour, ...] = (
    (40, 42, 48), (170, 205, 220), (150, 40, 48), (46, 78, 120), (210, 196, 160), (70, 104, 76),
)  # fmt: skip

KNEE = 165.0


@dataclass(frozen=True)
class Development:
    """The effects of camera and compression; lengths in pixels of the finished image."""

    gain: Colour = (1.0, 1.0, 1.0)
    blur: float = 0.0
    motion: float = 0.0
    motion_angle: float = 0.0
    resolution: float = 1.0
    noise: float = 0.0
    quality: int = 92


@dataclass(frozen=True)
class Conditions:
    """Everything about a photograph that is independent of the person; angles in degrees."""

    yaw: float
    pitch: float
    roll: float
    light: Light
    expression: Expression
    occlusion: Occlusion
    glasses: bool
    development: Development
    jitter: float
    seed: int


def random_conditions(rng: np.random.Generator, yaw: float | None = None) -> Conditions:
    """Draw conditions; most photographs are easy, some are not. ``yaw`` fixes the turn."""
    turn = float(np.clip(rng.normal(0, 15), -42, 42)) if yaw is None else yaw
    return Conditions(
        yaw=turn,
        pitch=float(np.clip(rng.normal(0, 5), -12, 12)),
        roll=float(rng.normal(0, 6)),
        light=_random_light(rng),
        expression=_random_expression(rng),
        occlusion=_random_occlusion(rng),
        glasses=bool(rng.random() < 0.88),
        development=_random_development(rng),
        jitter=0.7,
        seed=int(rng.integers(2**31)),
    )


def photograph(head: Head, conditions: Conditions) -> np.ndarray:
    """The aligned image, [112, 112, 3] uint8 RGB; deterministic."""
    rng = np.random.default_rng(conditions.seed)
    expression, light = conditions.expression, conditions.light
    skin = head.skin.copy()
    draw_features(FeaturePen(skin, head.axes), head.person, expression)
    radius = head.radius_map(expression)
    turn = rotation(conditions.yaw, conditions.pitch, conditions.roll)
    jitter = rng.normal(0, conditions.jitter, (5, 2))
    camera = aligned_camera(turn, head.landmarks(expression, radius), jitter)
    radius = wear_on_head(conditions.occlusion, head, skin, radius)
    surface = trace(radius, head.axes, camera)
    brightness = float(np.mean(light.key) + np.mean(light.ambient)) * 0.8
    canvas = draw_backdrop(head, camera, brightness, rng)
    lit = shade(surface, skin, light, camera)
    canvas = cv2.blendLinear(lit, canvas, surface.cover, 1 - surface.cover)
    hold_before_face(canvas, conditions.occlusion, head, camera, conditions.glasses)
    small = cv2.resize(canvas, (PICTURE, PICTURE), interpolation=cv2.INTER_AREA)
    return develop(small, conditions.development, rng)


def develop(picture: np.ndarray, how: Development, rng: np.random.Generator) -> np.ndarray:
    """Blur, resolution, colour and sensor noise; uint8 in and out, [H, W, 3]."""
    if how.motion > 1.0:
        picture = cv2.filter2D(picture, -1, _motion_kernel(how.motion, how.motion_angle))
    if how.blur > 0.15:
        picture = cv2.GaussianBlur(picture, (0, 0), how.blur)
    if how.resolution < 1.0:
        height, width = picture.shape[:2]
        low = (round(width * how.resolution), round(height * how.resolution))
        picture = cv2.resize(picture, low, interpolation=cv2.INTER_AREA)
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
    values = picture * np.array(how.gain, np.float32)
    grain = rng.standard_normal(picture.shape[:2], np.float32)[..., None]
    values = _compress_highlights(values) + grain * np.float32(how.noise)
    return np.clip(values, 0, 255).astype(np.uint8)


def _compress_highlights(values: np.ndarray) -> np.ndarray:
    """A soft shoulder above KNEE, so that bright skin keeps its shading."""
    over = np.maximum(values - np.float32(KNEE), 0)
    room = np.float32(255 - KNEE)
    return np.minimum(values, np.float32(KNEE)) + room * over / (over + room)


def _motion_kernel(length: float, angle: float) -> np.ndarray:
    size = int(length) | 1
    kernel = np.zeros((size, size), np.float32)
    half = 0.5 * length * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    ends = np.round(size // 2 + np.stack([-half, half])).astype(np.int32)
    cv2.polylines(kernel, [ends], False, 1.0)
    return kernel / kernel.sum()


def _random_light(rng: np.random.Generator) -> Light:
    side, height = np.radians(rng.normal(0, 38)), np.radians(rng.uniform(0, 55))
    strength = rng.uniform(0.45, 0.82)
    warmth = rng.normal(0, 0.045)
    colour = np.array([1 + warmth, 1.0, 1 - warmth])
    return Light(
        direction=_triple([np.sin(side) * np.cos(height), -np.sin(height),
                           np.cos(side) * np.cos(height)]),
        key=_triple(strength * colour),
        ambient=_triple((1.19 - strength) * (1 - 0.6 * (colour - 1))),
        gloss=rng.uniform(0.03, 0.18),
    )  # fmt: skip


def _random_expression(rng: np.random.Generator) -> Expression:
    kind = rng.choice(("rest", "smile", "laugh", "talk", "surprise", "blink"),
                      p=(0.36, 0.26, 0.12, 0.12, 0.08, 0.06))  # fmt: skip
    smile = {"smile": rng.uniform(0.4, 1), "laugh": rng.uniform(0.6, 1)}.get(kind, 0.0)
    opened = {"laugh": rng.uniform(0.3, 0.8), "talk": rng.uniform(0.2, 0.6),
              "surprise": rng.uniform(0.2, 0.7)}.get(kind, 0.0)  # fmt: skip
    return Expression(
        smile=float(smile),
        open_mouth=float(opened),
        closed_eyes=1.0 if kind == "blink" else rng.uniform(0, 0.25),
        raised_brows=1.0 if kind == "surprise" else rng.uniform(0, 0.3),
        gaze=(float(rng.normal(0, 1.0)), float(rng.normal(0, 0.4))),
    )


def _random_occlusion(rng: np.random.Generator) -> Occlusion:
    kind = rng.choice(OCCLUSIONS, p=(0.87, 0.03, 0.025, 0.025, 0.025, 0.025))
    colour = OCCLUSION_COLOURS[rng.integers(len(OCCLUSION_COLOURS))]
    return Occlusion(str(kind), colour, rng.uniform(-1, 1))


def _random_development(rng: np.random.Generator) -> Development:
    exposure, warmth = np.exp(rng.normal(0.17, 0.12)), rng.normal(0, 0.03)
    fault = rng.choice(("none", "soft", "motion", "small"), p=(0.7, 0.14, 0.07, 0.09))
    return Development(
        gain=_triple(exposure * np.array([1 + warmth, 1.0, 1 - warmth])),
        blur=rng.uniform(0.6, 1.3) if fault == "soft" else rng.uniform(0, 0.5),
        motion=rng.uniform(3, 6) if fault == "motion" else 0.0,
        motion_angle=rng.uniform(0, 180),
        resolution=rng.uniform(0.32, 0.6) if fault == "small" else 1.0,
        noise=0.5 + 4.0 * rng.random() ** 2,
        quality=int(rng.integers(60, 96)),
    )


def _triple(values: np.ndarray | list[float]) -> Colour:
    first, second, third = (float(value) for value in values)
    return (first, second, third)
