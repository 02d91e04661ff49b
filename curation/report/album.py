"""The faces that cases show: of the image set, and of evaluation sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from curation.noise.checks import load_finding
from curation.noise.findings import Findings
from curation.pairs import VerificationPairs
from curation.report.thumbnails import LARGE, SMALL, Picture, thumbnail
from curation.report.wording import capital, counted
from curation.store import ImageSet

IN_A_ROW = 6
_REMEMBERED = 4096


@dataclass(frozen=True)
class Face:
    """One picture; ``alt`` says what it is to those who cannot see it."""

    picture: Picture
    name: str
    """Its index: "#17", or "lfw 17" in an evaluation set"""
    alt: str
    similarity: float = float("nan")
    """To the centre of its identity"""
    role: str = ""
    """What becomes of it, where a case is about two images: "kept" """
    is_suspect: bool = False


@dataclass(frozen=True)
class FaceRow:
    """Faces that belong together; the title says of how many they are."""

    title: str
    faces: tuple[Face, ...]


class Album:
    """Finds and draws faces; each is read and made small once.

    ``similarity`` ``[N]`` tells which of an identity's images show it best, and is NaN where that
    is not known; those that are ``flagged`` (bool ``[N]``) come last. ``evaluation`` are the sets
    that overlaps point into: each name with its set, or None where that is not at hand.
    """

    def __init__(
        self,
        images: ImageSet,
        similarity: np.ndarray,
        flagged: np.ndarray,
        evaluation: Sequence[tuple[str, VerificationPairs | None]] = (),
    ) -> None:
        self.images = images
        self.evaluation = evaluation
        self.source_labels = images.source_labels
        self._similarity = similarity
        self._flagged = flagged
        self._picture: Callable[[int, int], Picture] = lru_cache(_REMEMBERED)(self._draw)

    def name(self, identity: int) -> str:
        """An identity by its index, its label in the source, and its number of images."""
        label, count = int(self.source_labels[identity]), len(self.members(identity))
        return f"identity {identity} (label {label}, {counted(count, 'image')})"

    def members(self, identity: int) -> np.ndarray:
        """The images of an identity; ``IndexError`` where there is no such identity."""
        if not 0 <= identity < self.images.identities:
            raise IndexError(f"there is no identity {identity}")
        return np.arange(*self.images.offsets[identity : identity + 2])

    def suspect(self, i: int, role: str = "") -> Face:
        """Image ``i`` of the set, large and marked."""
        return replace(self.large(i, role), is_suspect=True)

    def large(self, i: int, role: str = "") -> Face:
        """Image ``i`` of the set, large."""
        return replace(self._face(i), picture=self._picture(i, LARGE), role=role)

    def _face(self, i: int) -> Face:
        alt = f"image {i} of identity {int(self.images.labels[i])}"
        return Face(self._picture(i, SMALL), f"#{i}", alt, float(self._similarity[i]))

    def evaluation_face(self, number: int, i: int) -> Face | None:
        """Image ``i`` of evaluation set ``number``; None where that set is not at hand."""
        name, pairs = self.evaluation[number]
        if pairs is None:
            return None
        picture = thumbnail(pairs.images[i], LARGE)
        return Face(picture, f"{name} {i}", f"image {i} of {name}", is_suspect=True)

    def identity(self, identity: int, what: str = "", without: int = -1) -> FaceRow:
        """The faces that are nearest to the identity's centre, without image ``without``.

        The row's title is ``what`` it is here, and the identity's name.
        """
        members = self.members(identity)
        name = self.name(identity)
        title = f"{what}: {name}" if what else capital(name)
        return self.row(members[members != without], title)

    def row(self, members: np.ndarray, title: str) -> FaceRow:
        """The most typical of these images, the best first."""
        # NaN is sorted last, and equal ones keep the set's order.
        order = np.lexsort((-self._similarity[members], self._flagged[members]))
        best = members[order][:IN_A_ROW]
        return FaceRow(title, tuple(self._face(int(i)) for i in best))

    def _draw(self, i: int, side: int) -> Picture:
        return thumbnail(self.images.read(i), side)


def open_album(
    images: ImageSet, findings: Findings, evaluation: Sequence[VerificationPairs]
) -> Album:
    """An album that prefers what no check flagged, and what is nearest to its identity's centre.

    Evaluation sets are known by their digests, and in the order in which they were checked.
    """
    by_digest = {pairs.digest: pairs for pairs in evaluation}
    similarity = np.full(len(images), np.nan, np.float32)
    flagged = np.zeros(len(images), bool)
    for summary in findings.meta.checks:
        if summary.subject != "image":
            continue
        finding = load_finding(findings, summary.check)
        flagged[finding.subjects[finding.flagged]] = True
        if summary.check == "misplaced":
            similarity[finding.subjects] = finding.evidence["similarity"]
    sets = [(name, by_digest.get(digest)) for name, digest in findings.meta.evaluation.items()]
    return Album(images, similarity, flagged, sets)
