"""What a check shows about an image or identity. Faces are indices; the report draws them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.image_set import ImageSet
from curation.noise.findings import Finding
from curation.wording import capital, counted


@dataclass(frozen=True)
class Explanation:
    """An introduction to a check for people who see it for the first time.

    ``title`` names what it finds, in the plural. The other fields are sentences: the meaning of a
    flag, what to compare, and what happens to flagged subjects.
    """

    title: str
    meaning: str
    look: str = ""
    action: str = "The table of decisions states the action."


@dataclass(frozen=True)
class ShownFace:
    """A face that is shown large."""

    image: int
    role: str = ""
    """What happens to it when two images are compared: "kept" """
    is_suspect: bool = True
    evaluation: int | None = None
    """Index of the evaluation set that contains it; None for an image of the set"""


@dataclass(frozen=True)
class ShownRow:
    """Images that belong together; the report shows the most typical ones."""

    title: str
    images: np.ndarray


@dataclass(frozen=True)
class Evidence:
    """The reasons for a score: the faces in question, the faces they are compared with, and a
    sentence.
    """

    title: str
    reason: str
    faces: tuple[ShownFace, ...]
    rows: tuple[ShownRow, ...]


@dataclass(frozen=True)
class ScoredSubject:
    """One subject of a finding, with its numbers and its images."""

    finding: Finding
    position: int
    images: ImageSet
    evaluation: Sequence[str] = ()
    """Names of the evaluation sets"""

    @property
    def index(self) -> int:
        """The index of the image or identity."""
        return int(self.finding.subjects[self.position])

    @property
    def score(self) -> float:
        return float(self.finding.scores[self.position])

    @property
    def identity(self) -> int:
        """The identity itself, or the label of the image."""
        is_image = self.finding.subject == "image"
        return int(self.images.labels[self.index]) if is_image else self.index

    def number(self, column: str) -> float:
        """A value of the evidence; NaN if the file lacks the column."""
        values = self.finding.evidence.get(column)
        return float("nan") if values is None else float(values[self.position])

    def named(self, column: str) -> int:
        """An index in the evidence; -1 if the file lacks the column."""
        values = self.finding.evidence.get(column)
        return -1 if values is None else int(values[self.position])

    def members(self, identity: int) -> np.ndarray:
        """The images of an identity; ``IndexError`` if it does not exist."""
        if not 0 <= identity < self.images.identities:
            raise IndexError(f"there is no identity {identity}")
        return np.arange(*self.images.offsets[identity : identity + 2])

    def name(self, identity: int) -> str:
        """An identity's index, its label in the source and its number of images."""
        label, count = int(self.images.source_labels[identity]), len(self.members(identity))
        named = "no label" if label < 0 else f"label {label}"
        return f"identity {identity} ({named}, {counted(count, 'image')})"

    def row(self, identity: int, what: str = "") -> ShownRow:
        """An identity's images except the subject.

        The title gives the role (``what``) and the name of the identity.
        """
        members, name = self.members(identity), self.name(identity)
        if self.finding.subject == "image":
            members = members[members != self.index]
        return ShownRow(f"{what}: {name}" if what else capital(name), members)

    def shown(self, reason: str = "", *rows: ShownRow, faces: Sequence[ShownFace] = ()) -> Evidence:
        """The image with the faces of its identity, or the faces of the identity; then ``rows``."""
        if self.finding.subject == "identity":
            own = self.row(self.index, "Its images")
            return Evidence(f"Identity {self.index}", reason, tuple(faces), (own, *rows))
        key = int(self.images.source_keys[self.index])
        title = f"Image {self.index} (key {key}) in identity {self.identity}"
        own = self.row(self.identity, "Its own")
        return Evidence(title, reason, (ShownFace(self.index), *faces), (own, *rows))
