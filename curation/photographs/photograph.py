"""The contents of one photograph."""

from typing import NamedTuple

from curation.photographs.faces import CutFace


class Photograph(NamedTuple):
    """The faces of a photograph, the largest first, or why it could not be read."""

    faces: list[CutFace]
    reason: str | None
