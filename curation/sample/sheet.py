"""A contact sheet of sample faces: one row per person, one column per photograph."""

import cv2
import numpy as np

from curation.contact_sheet import contact_sheet
from curation.sample.photograph import photograph
from curation.sample.studio import TRAINING, Studio


def people_sheet(seed: int, people: range, photographs: int, side: int) -> np.ndarray:
    """Photographs of some people of a sample, ``side`` pixels each, as uint8 RGB [H, W, 3]."""
    studio = Studio(seed)
    pictures = [
        photograph(studio.head(person), studio.conditions(TRAINING, person, number))
        for person in people
        for number in range(photographs)
    ]
    size = (side, side)
    small = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]
    return contact_sheet(small, photographs)
