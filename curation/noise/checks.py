"""The checks, each a function from what there is to see to a ``Finding``; in the order they run.

Scores are probabilities of a fault, from 0 to 1; a flag is a score above one half. Another check
is one more decorated function.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from curation.errors import UserError
from curation.noise.context import Context
from curation.noise.divided import find_divided
from curation.noise.duplicates import find_repetitions
from curation.noise.elsewhere import probability_elsewhere
from curation.noise.findings import Finding, Findings, Subject
from curation.noise.mixed import find_mixed
from curation.noise.overlap import find_overlap
from curation.noise.unusable import unusable_probability
from curation.progress import Progress
from curation.registry import check_unused

Run = Callable[[Context, Progress | None], Finding]
FLAG = 0.5
OVERLAP = "overlap"
"""The one check that also follows from evaluation sets"""


@dataclass(frozen=True)
class Check:
    """A check: its name, what it is about, and what it does."""

    name: str
    subject: Subject
    about: str
    run: Run


CHECKS: dict[str, Check] = {}


def check(name: str, subject: Subject, about: str) -> Callable[[Run], Run]:
    """Register a check under its name."""

    def register(run: Run) -> Run:
        before = CHECKS.get(name)
        check_unused("check", name, before and before.run, run)
        CHECKS[name] = Check(name, subject, about, run)
        return run

    return register


def load_finding(findings: Findings, name: str) -> Finding:
    """The finding of a check, about what that check is about; ``UserError`` else."""
    finding = findings.load(name)
    if name in CHECKS and CHECKS[name].subject != finding.subject:
        raise UserError(
            f"{findings.path} is damaged: {name} is about each {CHECKS[name].subject}, not each "
            f"{finding.subject}; check again"
        )
    return finding


@check("misplaced", "image", "images that do not belong to their identity")
def misplaced(context: Context, progress: Progress | None = None) -> Finding:
    """Evidence: similarity, nearest (to the identity's other images), other_identity,
    other_similarity, elsewhere (how probably it belongs to that other identity)."""
    found = context.membership
    flagged = found.probability > FLAG
    elsewhere = np.zeros(len(context.embedded), np.float32)
    which = np.flatnonzero(flagged)
    elsewhere[which] = probability_elsewhere(context.embedded, found, which)
    alone = context.embedded.sizes[context.embedded.labels] == 1
    summary = (
        f"{flagged.sum():,} of {len(flagged):,} images do not belong to their identity; "
        f"{(elsewhere > FLAG).sum():,} of them belong to another one"
    )
    if alone.any():
        summary += f"; {alone.sum():,} are the only one of their identity and cannot be judged"
    return Finding(
        "misplaced",
        "image",
        np.arange(len(flagged)),
        found.probability,
        flagged,
        {
            "similarity": np.where(alone, np.nan, found.support.centre).astype(np.float32),
            "nearest": np.where(alone, np.nan, found.support.nearest).astype(np.float32),
            "other_identity": found.other,
            "other_similarity": found.other_similarity,
            "elsewhere": elsewhere,
        },
        summary,
    )


@check("mixed", "identity", "two people or more under one identity")
def mixed(context: Context, progress: Progress | None = None) -> Finding:
    """Evidence: parts, smaller (images in the smallest part), between (cosine between the first two
    parts' centres). Of images: part, the proposed new identity within its identity."""
    found = find_mixed(context.embedded, context.membership)
    flagged = found.probability > FLAG
    identities = context.embedded.identities
    parts, smaller = np.ones(identities, np.int64), np.zeros(identities, np.int64)
    for identity in np.flatnonzero(flagged):
        counts = np.bincount(found.part[context.embedded.images_of(int(identity))])
        parts[identity], smaller[identity] = len(counts), counts.min()
    return Finding(
        "mixed",
        "identity",
        np.arange(identities),
        found.probability,
        flagged,
        {"parts": parts, "smaller": smaller, "between": found.between},
        f"{flagged.sum():,} of {identities:,} identities mix {parts[flagged].sum():,} people",
        {"part": found.part},
    )


@check("divided", "identity", "one person under several identities")
def divided(context: Context, progress: Progress | None = None) -> Finding:
    """Evidence: other_identity (the nearest other), similarity (of the centres), into (the identity
    it is proposed to be merged into; itself where it stays)."""
    found = find_divided(context.embedded, context.membership, progress=progress)
    flagged = found.probability > FLAG
    identities = context.embedded.identities
    merged = (found.into != np.arange(identities)).sum()
    return Finding(
        "divided",
        "identity",
        np.arange(identities),
        found.probability,
        flagged,
        {"other_identity": found.other, "similarity": found.similarity, "into": found.into},
        f"{flagged.sum():,} of {identities:,} identities show a person that another one shows too; "
        f"{merged:,} can be merged into another",
    )


@check("duplicate", "image", "photographs that are there twice")
def duplicate(context: Context, progress: Progress | None = None) -> Finding:
    """Evidence: of (the image kept), similarity (cosine), difference (1 - pixels' correlation)."""
    found = find_repetitions(context.images, context.embedded, context.membership, progress)
    images = np.array([one.image for one in found], np.int64)
    correlation = np.array([one.correlation for one in found], np.float32)
    return Finding(
        "duplicate",
        "image",
        images,
        np.clip(correlation, 0.0, 1.0),
        np.ones(len(images), bool),
        {
            "of": np.array([one.original for one in found], np.int64),
            "similarity": np.array([one.cosine for one in found], np.float32),
            "difference": 1.0 - correlation,
        },
        f"{len(images):,} of {len(context.embedded):,} images repeat another one",
    )


@check("unusable", "image", "no face, or one too blurred to know")
def unusable(context: Context, progress: Progress | None = None) -> Finding:
    """Evidence: norm (length of the embedding), similarity (highest to any identity's centre that
    was looked at)."""
    probability = unusable_probability(context.embedded, context.membership)
    flagged = probability > FLAG
    found = context.membership
    return Finding(
        "unusable",
        "image",
        np.arange(len(flagged)),
        probability,
        flagged,
        {
            "norm": context.embedded.lengths(),
            "similarity": np.maximum(found.support.centre, found.other_similarity),
        },
        f"{flagged.sum():,} of {len(flagged):,} images show no face that could be known again",
    )


@check(OVERLAP, "identity", "people of an evaluation set, who must not be trained on")
def overlap(context: Context, progress: Progress | None = None) -> Finding:
    """Evidence: set (of the evaluation sets, by place), image (in it), similarity (cosine)."""
    found = find_overlap(
        context.embedded, context.membership, context.evaluation, progress=progress
    )
    flagged = found.probability > FLAG
    names = ", ".join(one.name for one in context.evaluation) or "no evaluation set given"
    return Finding(
        OVERLAP,
        "identity",
        np.arange(len(flagged)),
        found.probability,
        flagged,
        {"set": found.set, "image": found.image, "similarity": found.similarity},
        f"{flagged.sum():,} of {len(flagged):,} identities are in an evaluation set ({names})",
    )
