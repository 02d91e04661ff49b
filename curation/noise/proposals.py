"""From findings to proposed decisions: each image and identity gets at most one fate.

What is surely not to be trained on goes first: overlap, then unusable, then repeated pictures. A
mixed identity is split before single images are judged misplaced: its second person is not noise. A
misplaced image moves where its right identity is beyond reasonable doubt, else it is dropped.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from curation.errors import UserError
from curation.noise.checks import CHECKS, load_finding
from curation.noise.decisions import Decision
from curation.noise.embedded import EmbeddedImages
from curation.noise.findings import Finding, Findings

MOVE = 0.9
"""Least probability of belonging to the other identity for a move"""


def propose(findings: Findings, images: EmbeddedImages) -> Iterator[Decision]:
    """Decisions on all flagged, in the order of identities within each kind.

    Each names the findings it follows from. Raises ``UserError`` where findings cannot be read, or
    do not say of every image or identity what they should.
    """
    found = {name: _whole(findings, name, images) for name in findings.checks if name in CHECKS}
    for decision in _propose(found, images):
        yield replace(decision, findings=found[decision.check].identity)


def _whole(findings: Findings, name: str, images: EmbeddedImages) -> Finding:
    """The finding, which scores all there are, in order; "duplicate" only what repeats another."""
    finding, subject = load_finding(findings, name), CHECKS[name].subject
    there = np.arange(len(images) if subject == "image" else images.identities)
    wanted = finding.subjects if name == "duplicate" else there
    if not np.array_equal(finding.subjects, wanted):
        raise UserError(
            f"{findings.path / name}.npz is damaged: it does not score every {subject}; check again"
        )
    return finding


def _propose(found: Mapping[str, Finding], images: EmbeddedImages) -> Iterator[Decision]:
    settled = np.zeros(len(images), bool)
    gone = np.zeros(images.identities, bool)
    if "overlap" in found:
        yield from _drop_identities(found["overlap"], images, settled, gone)
    for name in ("unusable", "duplicate"):
        if name in found:
            yield from _drop_images(found[name], images, settled)
    if "mixed" in found:
        yield from _split(found["mixed"], found.get("misplaced"), images, settled, gone)
    if "misplaced" in found:
        yield from _place(found["misplaced"], images, settled, gone)
    if "divided" in found:
        yield from _merge(found["divided"], gone)


def _drop_identities(
    finding: Finding, images: EmbeddedImages, settled: np.ndarray, gone: np.ndarray
) -> Iterator[Decision]:
    for identity in np.flatnonzero(finding.flagged).tolist():
        gone[identity] = settled[images.images_of(identity)] = True
        similarity = finding.evidence["similarity"][identity]
        image, number = finding.evidence["image"][identity], finding.evidence["set"][identity]
        note = f"image {image} of evaluation set {number}, cosine {similarity:.3f}"
        yield Decision(
            "drop-identity",
            identity,
            check=finding.check,
            score=float(finding.scores[identity]),
            note=note,
        )


def _drop_images(
    finding: Finding, images: EmbeddedImages, settled: np.ndarray
) -> Iterator[Decision]:
    for at in np.flatnonzero(finding.flagged).tolist():
        image = int(finding.subjects[at])
        if settled[image]:
            continue
        settled[image] = True
        yield Decision(
            "drop",
            int(images.labels[image]),
            image,
            check=finding.check,
            score=float(finding.scores[at]),
            note=_drop_note(finding, at),
        )


def _drop_note(finding: Finding, at: int) -> str:
    if finding.check == "duplicate":
        return f"repeats image {finding.evidence['of'][at]}"
    return f"embedding of length {finding.evidence['norm'][at]:.2f}"


def _split(
    finding: Finding,
    misplaced: Finding | None,
    images: EmbeddedImages,
    settled: np.ndarray,
    gone: np.ndarray,
) -> Iterator[Decision]:
    """The parts beside the largest become identities; what moves elsewhere, moves."""
    for identity in np.flatnonzero(finding.flagged & ~gone).tolist():
        which = images.images_of(identity)
        for image in range(which.start, which.stop):
            part = int(finding.images["part"][image])
            if part == 0 or settled[image] or _moves(misplaced, image):
                continue
            settled[image] = True
            yield Decision(
                "split",
                identity,
                image,
                part,
                finding.check,
                float(finding.scores[identity]),
                f"{finding.evidence['parts'][identity]} people",
            )


def _moves(misplaced: Finding | None, image: int) -> bool:
    if misplaced is None or not misplaced.flagged[image]:
        return False
    return bool(misplaced.evidence["elsewhere"][image] >= MOVE)


def _place(
    finding: Finding, images: EmbeddedImages, settled: np.ndarray, gone: np.ndarray
) -> Iterator[Decision]:
    for image in np.flatnonzero(finding.flagged & ~settled).tolist():
        other = int(finding.evidence["other_identity"][image])
        moves = other >= 0 and _moves(finding, image) and not gone[other]
        cosine = finding.evidence["similarity"][image]
        towards = finding.evidence["other_similarity"][image]
        yield Decision(
            "move" if moves else "drop",
            int(images.labels[image]),
            image,
            other if moves else None,
            finding.check,
            float(finding.scores[image]),
            f"cosine {cosine:.3f} to its identity, {towards:.3f} to identity {other}",
        )


def _merge(finding: Finding, gone: np.ndarray) -> Iterator[Decision]:
    into = finding.evidence["into"]
    for identity in np.flatnonzero(into != np.arange(len(into))).tolist():
        if not gone[identity] and not gone[into[identity]]:
            yield Decision(
                "merge",
                identity,
                into=int(into[identity]),
                check=finding.check,
                score=float(finding.scores[identity]),
                note=f"centres' cosine {finding.evidence['similarity'][identity]:.3f}",
            )
