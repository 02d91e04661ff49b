"""Images that do not belong to their identity, and whether they belong to another one.

That an image is misplaced, its membership says. Where it belongs is the identity that it resembles
most, or nobody here. The best of many identities always looks good, so the measure is the best of
all others and not a stranger's identity: what trusted images look like in their own identity,
against what they look like in the other identity that resembles them most.
"""

from collections.abc import Iterator

import numpy as np

from curation.neighbours import blocks
from curation.noise.calibration import fit_ratio, probabilities
from curation.noise.check import FLAG, Context, Fates, NoiseCheck, check
from curation.noise.decisions import Decision
from curation.noise.embedded import EmbeddedImages
from curation.noise.findings import Finding, FindingsMeta, require_indices
from curation.noise.membership import (
    BLOCK,
    OTHERS,
    SAMPLE,
    Membership,
    best_except,
    support_by,
    support_features,
    trusted_images,
)
from curation.noise.presentation import Evidence, Explanation, ScoredSubject
from curation.progress import Progress
from curation.wording import decimal

MOVE = 0.9
"""Least probability of belonging to the other identity for a move"""


@check(
    "misplaced",
    "image",
    order=10,
    precedence=50,
    explanation=Explanation(
        "Images under the wrong identity",
        "The face resembles the rest of its identity too little to be the same person.",
        "Compare the large face with its own identity, then with the identity that it resembles "
        "most. Profiles, masks and children's photographs of the same person are the usual false "
        "alarms.",
        "The image is left out, or moved to the identity where it belongs.",
    ),
)
class Misplaced(NoiseCheck):
    """Images that do not belong to their identity."""

    own_similarity = "similarity"

    def score(self, context: Context, progress: Progress | None = None) -> Finding:
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
        evidence = {
            "similarity": np.where(alone, np.nan, found.support.centre).astype(np.float32),
            "nearest": np.where(alone, np.nan, found.support.nearest).astype(np.float32),
            "other_identity": found.other,
            "other_similarity": found.other_similarity,
            "elsewhere": elsewhere,
        }
        return self.finding(found.probability, evidence, summary)

    def verify(self, finding: Finding, meta: FindingsMeta) -> None:
        require_indices(finding, "other_identity", meta.identities, least=-1)

    def propose(self, finding: Finding, fates: Fates) -> Iterator[Decision]:
        """Moved where the right identity is beyond reasonable doubt, else left out."""
        for image in np.flatnonzero(finding.flagged & ~fates.settled).tolist():
            fates.settled[image] = True
            other = int(finding.evidence["other_identity"][image])
            moves = other >= 0 and is_moved(finding, image) and not fates.gone[other]
            cosine = finding.evidence["similarity"][image]
            towards = finding.evidence["other_similarity"][image]
            yield Decision(
                "move" if moves else "drop",
                int(fates.images.labels[image]),
                image,
                other if moves else None,
                score=float(finding.scores[image]),
                note=f"cosine {cosine:.3f} to its identity, {towards:.3f} to identity {other}",
            )

    def evidence(self, one: ScoredSubject) -> Evidence:
        other, elsewhere = one.named("other_identity"), one.number("elsewhere")
        reason = (
            f"Similarity {decimal(one.number('similarity'))} to the centre of its identity, "
            f"{decimal(one.number('nearest'))} to its nearest three"
        )
        if other < 0:
            return one.shown(f"{reason}; no other identity was compared.")
        reason += f"; {decimal(one.number('other_similarity'))} to identity {other}"
        if elsewhere > 0:
            reason += f", where it belongs with probability {decimal(elsewhere)}"
        return one.shown(f"{reason}.", one.row(other, "Nearest other"))


def is_moved(finding: Finding | None, image: int) -> bool:
    """Whether a finding of ``misplaced`` flags the image and is sure of the other identity."""
    if finding is None or not finding.flagged[image]:
        return False
    return bool(finding.evidence["elsewhere"][image] >= MOVE)


def probability_elsewhere(
    images: EmbeddedImages, membership: Membership, which: np.ndarray, seed: int = 0
) -> np.ndarray:
    """How probably each of ``which [n]`` belongs to the other identity it resembles: float32.

    0 where there is no other identity.
    """
    belongs = np.zeros(len(which), np.float32)
    there = np.flatnonzero(membership.other[which] >= 0)
    random = np.random.default_rng(seed)
    trusted = trusted_images(images, membership)
    if len(there) == 0 or len(trusted) < 2:
        return belongs
    sample = np.sort(random.choice(trusted, min(SAMPLE, len(trusted)), replace=False))
    own = images.labels[sample].astype(np.int64)
    at_home = _seen_in(images, membership, sample, own)
    ratio = fit_ratio(_lookalikes(images, membership, sample, own), at_home)
    asked = which[there]
    features = _seen_in(images, membership, asked, membership.other[asked])
    belongs[there] = probabilities(ratio(features))
    return belongs


def _seen_in(
    images: EmbeddedImages, membership: Membership, which: np.ndarray, identities: np.ndarray
) -> np.ndarray:
    """Features of images ``[n]`` in identities ``[n]``, against the best of the rest.

    An image that is in the identity does not vouch for itself.
    """
    features = []
    for block in blocks(len(which), BLOCK):
        here, asked = which[block], identities[block]
        vectors = images.vectors(here)
        near, found = membership.search.search(vectors, OTHERS)
        rival = best_except(near, found, asked)[0]
        inside = (images.labels[here] == asked).all()
        support = (
            membership.support if inside else support_by(images, membership.trust, vectors, asked)
        )
        rows = here if inside else np.arange(len(here))
        features.append(support_features(support, rows, rival))
    return np.concatenate(features)


def _lookalikes(
    images: EmbeddedImages, membership: Membership, sample: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Features of images in the identity that resembles them most without being theirs.

    Their own identity is not among its rivals, as it would not be for one who has none here.
    """
    features = []
    for block in blocks(len(sample), BLOCK):
        vectors = images.vectors(sample[block])
        near, found = membership.search.search(vectors, OTHERS)
        first = best_except(near, found, own[block])[1]
        there = np.flatnonzero(first >= 0)
        rival = best_except(near, found, own[block], first)[0]
        support = support_by(images, membership.trust, vectors[there], first[there])
        features.append(support_features(support, np.arange(len(there)), rival[there]))
    return np.concatenate(features)
