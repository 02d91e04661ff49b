"""A person ready to be photographed, with the maps that are computed once."""

from dataclasses import dataclass

import cv2
import numpy as np

from curation.sample.complexion import skin_map
from curation.sample.features import Expression, mouth_corners
from curation.sample.hair import hairline_mask
from curation.sample.head_map import RELIEF_SIZE, front_to_direction, to_map
from curation.sample.person import Person
from curation.sample.relief import Relief, head_axes, head_relief


@dataclass(frozen=True)
class Head:
    """Person, skin map and relief, derived from the person alone, so equal people look equal."""

    person: Person
    axes: np.ndarray
    skin: np.ndarray
    relief: Relief

    @classmethod
    def of(cls, person: Person) -> "Head":
        mask = hairline_mask(person.hair, person.face)
        small = cv2.resize(mask, (RELIEF_SIZE, RELIEF_SIZE), interpolation=cv2.INTER_AREA)
        relief = head_relief(person, small.astype(np.float32) / 255.0)
        return cls(person, head_axes(person), skin_map(person, mask), relief)

    def radius_map(self, expression: Expression) -> np.ndarray:
        """The relief of this head with this expression, [RELIEF_SIZE, RELIEF_SIZE] float32."""
        relief = self.relief
        moved = np.float32(expression.smile) * relief.smile
        return relief.rest + moved + np.float32(expression.open_mouth) * relief.open_mouth

    def landmarks(self, expression: Expression, radius: np.ndarray) -> np.ndarray:
        """The five points of face alignment in head pixels, [5, 3]: eyes, nose, mouth corners."""
        person = self.person
        eyes = [[-person.eyes.spacing, 0.0], [person.eyes.spacing, 0.0]]
        points = [*eyes, [0.0, person.nose.tip], *mouth_corners(person, expression)]
        directions = front_to_direction(np.array(points), self.axes)
        places = np.round(to_map(directions, RELIEF_SIZE)).astype(int)
        return directions * radius[places[:, 1], places[:, 0], None] * self.axes
