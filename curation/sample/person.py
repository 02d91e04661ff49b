"""The parameters that make a drawn person recognisable, constant over all photographs.

Lengths are in pixels of the aligned 112x112 image, measured from the middle between the eyes of an
average frontal face: x to the right, y down.
"""

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]
"""RGB, 0 to 255."""

SKIN_TONES: tuple[Colour, ...] = (
    (252, 224, 208),
    (244, 206, 180),
    (230, 184, 150),
    (204, 154, 120),
    (160, 114, 86),
    (108, 76, 58),
)
HAIR_COLOURS: tuple[Colour, ...] = (
    (26, 22, 22),
    (54, 36, 26),
    (94, 62, 38),
    (134, 72, 38),
    (176, 84, 40),
    (206, 168, 104),
)
GREY_HAIR: Colour = (186, 184, 182)
EYE_COLOURS: tuple[Colour, ...] = (
    (48, 28, 16),
    (92, 56, 26),
    (124, 104, 52),
    (74, 112, 70),
    (70, 116, 164),
    (124, 140, 152),
)
HAIR_STYLES = ("bald", "buzz", "short", "receding", "parted", "fringe", "curly", "long", "bob")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
GLASSES = ("none", "round", "square", "browline")


@dataclass(frozen=True)
class HeadShape:
    """Skull and flesh. Half axes and ears are lengths; the others are bumps in head radii."""

    half_width: float
    half_height: float
    jaw: float
    chin: float
    cheekbones: float
    cheek_fullness: float
    brow_ridge: float
    ear_size: float


@dataclass(frozen=True)
class EyeShape:
    """``opening`` is height over length, ``tilt`` a slope, ``depth`` in head radii."""

    spacing: float
    half_length: float
    opening: float
    tilt: float
    depth: float
    crease: float
    colour: Colour
    liner: float


@dataclass(frozen=True)
class Brows:
    """``strength`` from 0 to 1 blends the colour from that of the skin to that of the hair."""

    height: float
    thickness: float
    half_length: float
    arch: float
    tilt: float
    strength: float


@dataclass(frozen=True)
class Nose:
    """``protrusion`` and ``hump`` are in head radii; ``bridge`` is half the width there."""

    tip: float
    half_width: float
    protrusion: float
    bridge: float
    hump: float


@dataclass(frozen=True)
class Mouth:
    """``bow`` from 0 to 1 is the notch of the upper lip; ``corners`` is how far they rise."""

    height: float
    half_width: float
    upper_lip: float
    lower_lip: float
    bow: float
    corners: float
    colour: Colour


@dataclass(frozen=True)
class Hair:
    """``hairline`` in degrees upwards, ``volume`` in head radii, ``parting`` from -1 to 1."""

    style: str
    colour: Colour
    hairline: float
    volume: float
    parting: float
    beard: str


@dataclass(frozen=True)
class SkinMarks:
    """Moles as (x, y, radius), the count of freckles, a scar as two end points, wrinkles 0 to 1."""

    moles: tuple[tuple[float, float, float], ...]
    freckles: int
    scar: tuple[tuple[float, float], tuple[float, float]] | None
    wrinkles: float
    blush: float
    texture_seed: int


@dataclass(frozen=True)
class Person:
    """One drawn person. No two people share all parameters; one person always has the same."""

    skin: Colour
    face: HeadShape
    eyes: EyeShape
    brows: Brows
    nose: Nose
    mouth: Mouth
    hair: Hair
    marks: SkinMarks
    glasses: str
    glasses_colour: Colour


def random_person(rng: np.random.Generator) -> Person:
    """Draw a person; a few hidden traits (tone, age, masculinity) correlate the parameters."""
    tone, age, masculinity = rng.random() ** 1.3, rng.random() ** 1.4, rng.random()
    skin = _mix_along(SKIN_TONES, tone, rng, spread=6)
    hair = _random_hair(rng, tone, age, masculinity)
    return Person(
        skin=skin,
        face=_random_face(rng, masculinity),
        eyes=_random_eyes(rng, tone, masculinity),
        brows=_random_brows(rng, masculinity),
        nose=_random_nose(rng),
        mouth=_random_mouth(rng, skin, masculinity),
        hair=hair,
        marks=_random_marks(rng, tone, age),
        glasses=str(rng.choice(GLASSES, p=(0.76, 0.08, 0.08, 0.08))),
        glasses_colour=_mix_along(((24, 22, 24), (94, 52, 30), (150, 30, 40), (176, 150, 90)),
                                  rng.random(), rng, spread=4),
    )  # fmt: skip


def _random_face(rng: np.random.Generator, masculinity: float) -> HeadShape:
    return HeadShape(
        half_width=rng.uniform(41.0, 49.5),
        half_height=rng.uniform(62.0, 70.0),
        jaw=rng.uniform(-0.07, 0.07) + 0.06 * (masculinity - 0.5),
        chin=rng.uniform(-0.02, 0.10),
        cheekbones=rng.uniform(0.0, 0.07),
        cheek_fullness=rng.uniform(-0.06, 0.05),
        brow_ridge=rng.uniform(0.0, 0.03) + 0.03 * masculinity,
        ear_size=rng.uniform(8.0, 13.0),
    )


def _random_eyes(rng: np.random.Generator, tone: float, masculinity: float) -> EyeShape:
    return EyeShape(
        spacing=rng.uniform(15.6, 19.8),
        half_length=rng.uniform(7.0, 9.4),
        opening=rng.uniform(0.30, 0.56),
        tilt=rng.uniform(-0.14, 0.20),
        depth=rng.uniform(0.02, 0.075),
        crease=rng.uniform(0.0, 1.0),
        colour=_mix_along(EYE_COLOURS, rng.random() * (1.0 - tone) ** 0.7, rng, spread=8),
        liner=max(0.0, rng.uniform(-0.3, 1.0) - masculinity),
    )


def _random_brows(rng: np.random.Generator, masculinity: float) -> Brows:
    return Brows(
        height=rng.uniform(9.5, 14.5) - 1.5 * masculinity,
        thickness=rng.uniform(0.9, 2.2) + 1.2 * masculinity * rng.random(),
        half_length=rng.uniform(9.0, 12.5),
        arch=rng.uniform(0.0, 3.2),
        tilt=rng.uniform(-0.16, 0.14),
        strength=rng.uniform(0.45, 1.0),
    )


def _random_nose(rng: np.random.Generator) -> Nose:
    return Nose(
        tip=rng.uniform(15.5, 22.5),
        half_width=rng.uniform(6.2, 11.0),
        protrusion=rng.uniform(0.13, 0.27),
        bridge=rng.uniform(2.6, 4.8),
        hump=rng.uniform(-0.03, 0.05),
    )


def _random_mouth(rng: np.random.Generator, skin: Colour, masculinity: float) -> Mouth:
    lipstick = max(0.0, rng.uniform(-0.9, 1.0) - masculinity)
    natural = np.array(skin) * (0.86, 0.66, 0.66) + (8, 0, 4)
    paint = np.array(((176, 24, 44), (196, 70, 96), (124, 26, 52))[rng.integers(3)])
    colour = (1 - lipstick) * natural + lipstick * paint
    return Mouth(
        height=rng.uniform(35.5, 42.5),
        half_width=rng.uniform(12.0, 18.0),
        upper_lip=rng.uniform(1.4, 4.4),
        lower_lip=rng.uniform(2.2, 5.6),
        bow=rng.uniform(0.0, 1.0),
        corners=rng.uniform(-1.4, 1.4),
        colour=_as_colour(colour),
    )


def _random_hair(rng: np.random.Generator, tone: float, age: float, masculinity: float) -> Hair:
    weights = np.array((0.06, 0.08, 0.18, 0.10, 0.16, 0.13, 0.12, 0.10, 0.07))
    male = np.array((1.8, 1.6, 1.4, 1.8, 1.0, 0.7, 1.0, 0.25, 0.1))
    weights = weights * (masculinity * male + (1 - masculinity) * (2.0 - male).clip(0.05))
    colour = np.array(_mix_along(HAIR_COLOURS, rng.random() ** 1.3 * (1 - tone) ** 0.6, rng, 6))
    grey = float(np.clip((age - 0.55) * 2.6 * rng.uniform(0.4, 1.2), 0, 0.95))
    bearded = masculinity > 0.55 and rng.random() < 0.6
    return Hair(
        style=str(rng.choice(HAIR_STYLES, p=weights / weights.sum())),
        colour=_as_colour((1 - grey) * colour + grey * np.array(GREY_HAIR)),
        hairline=rng.uniform(-5.0, 6.0),
        volume=rng.uniform(0.05, 0.14),
        parting=rng.uniform(-0.8, 0.8),
        beard=str(rng.choice(BEARDS[1:])) if bearded else "none",
    )


def _random_marks(rng: np.random.Generator, tone: float, age: float) -> SkinMarks:
    count = int(rng.choice((0, 1, 2, 3), p=(0.45, 0.3, 0.15, 0.1)))
    moles = [
        (rng.uniform(-32, 32), rng.uniform(4, 52), rng.uniform(0.8, 1.7)) for _ in range(count)
    ]
    scar = None
    if rng.random() < 0.08:
        x, y, angle = rng.uniform(-30, 30), rng.uniform(-22, 30), rng.uniform(0.4, 2.6)
        scar = ((x, y), (x + 11 * float(np.cos(angle)), y + 11 * float(np.sin(angle))))
    return SkinMarks(
        moles=tuple(moles),
        freckles=int(rng.integers(40, 120)) if tone < 0.45 and rng.random() < 0.25 else 0,
        scar=scar,
        wrinkles=float(np.clip(age * 1.5 - 0.45, 0, 1)),
        blush=rng.uniform(0.0, 1.0) * (1 - 0.6 * tone),
        texture_seed=int(rng.integers(2**31)),
    )


def _mix_along(
    colours: tuple[Colour, ...], position: float, rng: np.random.Generator, spread: float
) -> Colour:
    """The colour at ``position`` (0 to 1) along a list of colours, with slight variation."""
    place = float(np.clip(position, 0, 1)) * (len(colours) - 1)
    low = min(int(place), len(colours) - 2)
    mixed = np.array(colours[low]) + (place - low) * np.subtract(colours[low + 1], colours[low])
    return _as_colour(mixed + rng.uniform(-spread, spread, 3))


def _as_colour(values: np.ndarray) -> Colour:
    red, green, blue = np.clip(values, 0, 255).tolist()
    return (red, green, blue)
