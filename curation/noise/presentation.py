"""What a check shows of one image or identity. Faces go by their index; the report draws them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.noise.findings import Finding
from curation.store import ImageSet
from curation.wording import capital, counted


@dataclass(frozen=True)
class Explanation:
    """A check, for people who meet it for the first time.

    ``title`` names what it finds, in the plural. The others are sentences: what a flag means, what
    to compare, and what is done with those that are flagged.
    """

    title: str
    meaning: str
    look: str = ""
    action: str = "The table of decisions says what is done."


@dataclass(frozen=True)
class ShownFace:
    """A face that is shown large."""

    image: int
    role: str = ""
    """What becomes of it, where two images are compared: "kept" """
    is_suspect: bool = True
    evaluation: int | None = None
    """The evaluation set that it is in, by its place; None for an image of the set"""


@dataclass(frozen=True)
class ShownRow:
    """Images that belong together; the report shows the most typical of them."""

    title: str
    images: np.ndarray


@dataclass(frozen=True)
class Evidence:
    """Why a subject has its score: the faces in question, what they are compared with, a reason."""

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
    """Names of the evaluation sets that were looked for"""

    @property
    def index(self) -> int:
        """Of the image or identity that it is."""
        return int(self.finding.subjects[self.position])

    @property
    def score(self) -> float:
        return float(self.finding.scores[self.position])

    @property
    def identity(self) -> int:
        """The identity that it is, or that the image is labelled with."""
        is_image = self.finding.subject == "image"
        return int(self.images.labels[self.index]) if is_image else self.index

    def number(self, column: str) -> float:
        """Of the evidence; NaN where the file does not have the column."""
        values = self.finding.evidence.get(column)
        return float("nan") if values is None else float(values[self.position])

    def named(self, column: str) -> int:
        """The index in a column of the evidence; -1 where nothing is named."""
        values = self.finding.evidence.get(column)
        return -1 if values is None else int(values[self.position])

    def members(self, identity: int) -> np.ndarray:
        """The images of an identity; ``IndexError`` where there is no such identity."""
        if not 0 <= identity < self.images.identities:
            raise IndexError(f"there is no identity {identity}")
        return np.arange(*self.images.offsets[identity : identity + 2])

    def name(self, identity: int) -> str:
        """An identity by its index, its label in the source, and its number of images."""
        label, count = int(self.images.source_labels[identity]), len(self.members(identity))
        named = "no label" if label < 0 else f"label {label}"
        return f"identity {identity} ({named}, {counted(count, 'image')})"

    def row(self, identity: int, what: str = "") -> ShownRow:
        """An identity's images without the subject.

        The title says ``what`` the identity is here, and its name.
        """
        members, name = self.members(identity), self.name(identity)
        if self.finding.subject == "image":
            members = members[members != self.index]
        return ShownRow(f"{what}: {name}" if what else capital(name), members)

    def shown(self, reason: str = "", *rows: ShownRow, faces: Sequence[ShownFace] = ()) -> Evidence:
        """The image beside the faces of its identity, or the identity's faces; then ``rows``."""
        if self.finding.subject == "identity":
            own = self.row(self.index, "Its images")
            return Evidence(f"Identity {self.index}", reason, tuple(faces), (own, *rows))
        key = int(self.images.source_keys[self.index])
        title = f"Image {self.index} (key {key}) in identity {self.identity}"
        own = self.row(self.identity, "Its own")
        return Evidence(title, reason, (ShownFace(self.index), *faces), (own, *rows))
