"""Cases, events and faces as JSON for the page; images are given by index."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.images import decode, encode_jpeg, probe_size
from curation.noise.decisions import Decision
from curation.noise.presentation import ShownRow
from curation.printable import printable
from curation.review.events import ReviewEvent
from curation.review.review import Review
from curation.review.standing import Conflict

MOST_FOUND = 20
_AS_THEY_ARE = 256
"""Images whose longer side has at most this many pixels are sent unchanged"""
_SMALL = 160
_KINDS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PN": "image/png"}


def shown_case(review: Review, case: int, seen: int) -> dict[str, Any]:
    """A case with everything the page shows; ``seen`` is the number of earlier events."""
    one, check = review.cases.scored(case), review.cases.checks[review.cases.check[case]]
    try:
        evidence = check.evidence(one)
    except IndexError as error:
        raise UserError(f"{review.findings.path}: {one.finding.check}: {error}") from None
    labels, rival = review.images.labels, int(review.cases.rival[case])
    proposal = review.cases.proposal(case)
    event = review.decision(case)
    return {
        "key": review.cases.key(case),
        "check": one.finding.check,
        "look": check.explanation.look,
        "title": printable(evidence.title),
        "reason": evidence.reason,
        "score": round(one.score, 4),
        "findings": one.finding.identity,
        "seen": seen,
        "image": review.cases.image(case),
        "identity": one.identity,
        "rival": rival if rival >= 0 else None,
        "proposed": [line.proposal for line in proposal.lines],
        "words": proposal.in_words,
        "faces": [
            {
                "image": face.image,
                "identity": int(labels[face.image]),
                "role": face.role,
                "suspect": face.is_suspect,
            }
            for face in evidence.faces
            if face.evaluation is None
        ],
        "compared": [
            {
                "set": face.evaluation,
                "name": printable(one.evaluation[face.evaluation]),
                "image": face.image,
                "there": review.compared.get(face.evaluation, face.image) is not None,
            }
            for face in evidence.faces
            if face.evaluation is not None
        ],
        "rows": [_row(review, row) for row in evidence.rows if len(row.images)],
        "decided": None if event is None else shown_event(review, event),
        "held_by": review.holder(case),
    }


def _row(review: Review, row: ShownRow) -> dict[str, Any]:
    images = np.asarray(row.images)
    return {
        "title": printable(row.title),
        "identity": int(review.images.labels[images[0]]),
        "images": _runs(images),
        "done": _fates(review, images),
    }


def _runs(images: np.ndarray) -> list[list[int]]:
    """Indices ``[n]`` as the first and last of each run; an identity may have 100,000 images."""
    ends = np.flatnonzero(np.diff(images) != 1)
    begins = np.concatenate([[0], ends + 1])
    return np.stack([images[begins], images[np.append(ends, len(images) - 1)]], axis=1).tolist()


def _fates(review: Review, images: np.ndarray) -> dict[int, str]:
    """One word per image that reviewers have decided on."""
    found = review.lines_about(images.tolist())
    done = {image: next((d for d in lines if d.apply), None) for image, lines in found.items()}
    return {image: _word(line) for image, line in done.items() if line is not None}


def _word(line: Decision) -> str:
    match line.action:
        case "move":
            return f"moved to {line.into}"
        case "split":
            return f"split off ({line.into})"
    return "left out"


def shown_event(review: Review, event: ReviewEvent) -> dict[str, Any]:
    """An event of the history."""
    undone = review.standing.undone_by(event)
    return {
        "id": event.id,
        "at": event.at,
        "who": printable(event.who),
        "case": event.case,
        "score": event.score,
        "choice": event.choice,
        "lines": list(event.lines[:50]),
        "more_lines": max(0, len(event.lines) - 50),
        "undoes": event.undoes,
        "counts": review.counts(event),
        "undone_by": None if undone is None else undone.who,
    }


def shown_conflict(review: Review, conflict: Conflict) -> dict[str, Any]:
    """A conflict with its key."""
    identity, image = conflict.about
    return {
        "about": f"identity {identity}" if image is None else f"image {image}",
        "image": image,
        "key": conflict_key(conflict),
        "events": [shown_event(review, event) for event in conflict.events],
    }


def conflict_key(conflict: Conflict) -> str:
    """Identifies a conflict by its subject and its decisions."""
    return " ".join([str(conflict.about), *(event.id for event in conflict.events)])


def shown_progress(review: Review) -> dict[str, Any]:
    """The progress of the review, and the calibration of the checks."""
    return {
        **vars(review.progress()),
        "calibration": [{**vars(one), "words": str(one)} for one in review.calibration()],
    }


def shown_identity(review: Review, identity: int, most: int = 6) -> dict[str, Any]:
    """An identity found by a search, with its first faces."""
    images = review.images
    if not 0 <= identity < images.identities:
        raise UserError(f"there is no identity {identity}; there are {images.identities:,}")
    begin, end = (int(i) for i in images.offsets[identity : identity + 2])
    label = int(images.source_labels[identity])
    names = images.store.source_names
    name = None if names is None else names[int(images.rows[begin])].rpartition("/")[0]
    return {
        "identity": identity,
        "label": label if label >= 0 else None,
        "name": name and printable(name),
        "count": end - begin,
        "images": list(range(begin, min(end, begin + most))),
    }


def find_identities(review: Review, text: str) -> list[dict[str, Any]]:
    """Identities by index, source label, or part of their source name."""
    found = dict.fromkeys(_matches(review, text.strip().lower()))
    return [shown_identity(review, identity) for identity in list(found)[:MOST_FOUND]]


def _matches(review: Review, text: str) -> Iterator[int]:
    images = review.images
    if text.isascii() and text.isdigit() and len(text) < 16:
        if int(text) < images.identities:
            yield int(text)
        yield from np.flatnonzero(images.source_labels == int(text))[:MOST_FOUND].tolist()
    names = images.store.source_names
    if names is not None and text:
        firsts = images.rows[images.offsets[:-1]].tolist()
        matching = (k for k, row in enumerate(firsts) if text in names[row].lower())
        for _, identity in zip(range(MOST_FOUND), matching, strict=False):
            yield identity


def picture(images: ImageSet, image: int) -> tuple[bytes, str]:
    """A face as an image file and its media type; large images are scaled down.

    Raises ``UserError`` if there is no such image or it cannot be decoded.
    """
    if not 0 <= image < len(images):
        raise UserError(f"there is no image {image}; there are {len(images):,}")
    return _sent(images.read(image), max(images.image_size))


def compared_picture(review: Review, place: int, image: int) -> tuple[bytes, str]:
    """A face of an evaluation set named by a case; raises the errors of ``picture``."""
    data = review.compared.get(place, image)
    if data is None:
        raise UserError(f"no case is about image {image} of an evaluation set that is at hand")
    return _sent(data, max(probe_size(data)))


def _sent(data: bytes, side: int) -> tuple[bytes, str]:
    kind = _KINDS.get(data[:3])
    if kind is not None and side <= _AS_THEY_ARE:
        return data, kind
    import cv2

    pixels = decode(data)
    scale = min(1.0, _SMALL / max(pixels.shape[:2]))
    size = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
    return encode_jpeg(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), 88), "image/jpeg"
