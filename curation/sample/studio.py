"""People and their photographs by number: the same numbers and seed give the same files."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from curation.images import encode_jpeg
from curation.sample.head import Head
from curation.sample.non_faces import draw_non_face
from curation.sample.person import random_person
from curation.sample.photograph import Conditions, photograph, random_conditions

# Independent streams of random numbers.
PEOPLE, TRAINING, VERIFICATION, PLAN = range(4)


@dataclass(frozen=True)
class Studio:
    """Takes all photographs of a sample with one seed."""

    seed: int

    def random(self, *stream: int) -> np.random.Generator:
        """Random numbers for one purpose, independent of all others."""
        return np.random.default_rng([self.seed, *stream])

    def head(self, person: int) -> Head:
        """The person with this number, ready to be photographed."""
        return _cached_head(self, person)

    def face(self, person: int, conditions: Conditions) -> bytes:
        """A JPEG file of the person."""
        picture = photograph(self.head(person), conditions)
        return encode_jpeg(picture, conditions.development.quality)

    def non_face(self, kind: str, *stream: int) -> bytes:
        """A JPEG file of something else."""
        rng = self.random(*stream)
        return encode_jpeg(draw_non_face(kind, rng), int(rng.integers(60, 96)))

    def conditions(self, *stream: int, yaw: float | None = None) -> Conditions:
        return random_conditions(self.random(*stream), yaw)


@lru_cache(maxsize=16)
def _cached_head(studio: Studio, person: int) -> Head:
    return Head.of(random_person(studio.random(PEOPLE, person)))


def developed_again(conditions: Conditions, rng: np.random.Generator) -> Conditions:
    """The same moment with slightly different colour, scale and compression: a near duplicate."""
    before = conditions.development
    gain = tuple(channel * rng.uniform(0.95, 1.05) for channel in before.gain)
    after = replace(
        before,
        gain=(gain[0], gain[1], gain[2]),
        resolution=min(before.resolution, rng.uniform(0.7, 0.9)),
        quality=int(rng.integers(55, 75)),
    )
    return replace(conditions, development=after)
