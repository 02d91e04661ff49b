"""Thumbnails of the faces in cases, from the image set and from evaluation sets."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.images import decode, encode_jpeg
from curation.noise.check import check_of, load_finding
from curation.noise.findings import Findings
from curation.noise.presentation import Evidence, ShownFace, ShownRow
from curation.pairs import VerificationPairs
from curation.report.siblings import checked_sets

IN_A_ROW = 6
_REMEMBERED = 4096
LARGE = 112
"""Longer side, in pixels, of the face in question: aligned faces are not resized."""
SMALL = 80
"""Longer side of the faces that it is compared with."""
_QUALITY = {LARGE: 85, SMALL: 78}


@dataclass(frozen=True)
class Picture:
    """A thumbnail; ``uri`` is None if the image cannot be decoded."""

    uri: str | None
    width: int
    height: int


@dataclass(frozen=True)
class Face:
    """One face; ``alt`` is its text alternative."""

    picture: Picture
    name: str
    """Its index: "#17", or "lfw 17" in an evaluation set"""
    alt: str
    similarity: float = float("nan")
    """Similarity to its identity's prototype"""
    role: str = ""
    """What happens to it when a case compares two images: "kept" """
    is_suspect: bool = False


@dataclass(frozen=True)
class FaceRow:
    """Faces that belong together; the title includes their total number."""

    title: str
    faces: tuple[Face, ...]


@dataclass(frozen=True)
class DrawnEvidence:
    """Evidence with its thumbnails."""

    title: str
    reason: str
    subjects: tuple[Face, ...]
    rows: tuple[FaceRow, ...]


class Gallery:
    """Selects and draws faces; each thumbnail is made once.

    ``similarity`` ``[N]``, NaN if unknown, ranks the images of an identity by how typical they are;
    ``flagged`` ones (bool ``[N]``) come last. ``evaluation`` has the name of each evaluation set,
    and the set itself or None if unavailable.
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
        self._similarity = similarity
        self._flagged = flagged
        self._picture: Callable[[int, int], Picture] = lru_cache(_REMEMBERED)(self._draw)

    def draw(self, evidence: Evidence) -> DrawnEvidence:
        """The evidence with thumbnails, without faces of unavailable evaluation sets."""
        faces = (self._large(face) for face in evidence.faces)
        return DrawnEvidence(
            evidence.title,
            evidence.reason,
            tuple(face for face in faces if face is not None),
            tuple(self._row(row) for row in evidence.rows),
        )

    def _large(self, face: ShownFace) -> Face | None:
        i = face.image
        if face.evaluation is None:
            return self._face(i, LARGE, face.role, face.is_suspect)
        name, pairs = self.evaluation[face.evaluation]
        if pairs is None:
            return None
        picture, alt = thumbnail(pairs.images[i], LARGE), f"image {i} of {name}"
        return Face(picture, f"{name} {i}", alt, role=face.role, is_suspect=face.is_suspect)

    def _row(self, row: ShownRow) -> FaceRow:
        """The most typical of the images, best first."""
        # NaN sorts last, and ties keep the order of the set.
        order = np.lexsort((-self._similarity[row.images], self._flagged[row.images]))
        best = row.images[order][:IN_A_ROW]
        return FaceRow(row.title, tuple(self._face(int(i), SMALL) for i in best))

    def _face(self, i: int, side: int, role: str = "", is_suspect: bool = False) -> Face:
        alt = f"image {i} of identity {int(self.images.labels[i])}"
        similarity = float(self._similarity[i])
        return Face(self._picture(i, side), f"#{i}", alt, similarity, role, is_suspect)

    def _draw(self, i: int, side: int) -> Picture:
        return thumbnail(self.images.read(i), side)


def open_gallery(
    images: ImageSet, findings: Findings, evaluation: Sequence[VerificationPairs]
) -> Gallery:
    """A gallery that prefers unflagged images, then those most similar to their identity.

    Evaluation sets are matched by digest, and are in the order of the findings.
    """
    similarity = np.full(len(images), np.nan, np.float32)
    flagged = np.zeros(len(images), bool)
    for summary in findings.meta.checks:
        if summary.subject != "image":
            continue
        finding = load_finding(findings, summary.check)
        flagged[finding.subjects[finding.flagged]] = True
        if column := check_of(finding).own_similarity:
            similarity[finding.subjects] = finding.evidence[column]
    return Gallery(images, similarity, flagged, checked_sets(findings, evaluation))


def thumbnail(data: bytes, side: int) -> Picture:
    """The image file ``data``, scaled down to at most ``side`` (``LARGE`` or ``SMALL``) pixels.

    A file that cannot be decoded is not an error, because the page is where people look for bad
    images.
    """
    import cv2

    try:
        pixels = decode(data)
    except UserError:
        return Picture(None, side, side)
    scale = min(1.0, side / max(pixels.shape[:2]))
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    encoded = base64.b64encode(encode_jpeg(pixels, _QUALITY[side])).decode()
    return Picture(f"data:image/jpeg;base64,{encoded}", width, height)
