"""Images that do not belong to their identity, and their relabel candidates.

The label-error probability tells whether an image is misplaced. Its relabel candidate is the most
similar other identity. The best of many identities always looks similar, so the reference is not a
random identity but the best other one: trusted images in their own identity (in-class) are compared
with the same images in the most similar other identity (hard negatives).
"""

from collections.abc import Iterator

import numpy as np

from curation.neighbours import blocks
from curation.noise.calibration import fit_ratio, probabilities
from curation.noise.check import FLAG, Context, Fates, NoiseCheck, check
from curation.noise.decisions import Decision
from curation.noise.embedded import EmbeddedImages
from curation.noise.findings import Finding, FindingsMeta, require_indices
from curation.noise.identity_prototypes import similarity_to_identities
from curation.noise.label_errors import (
    BLOCK,
    OTHERS,
    SAMPLE,
    LabelErrors,
    best_except,
    similarity_features,
    trusted_images,
)
from curation.noise.presentation import Evidence, Explanation, ScoredSubject
from curation.progress import Progress
from curation.wording import counted, decimal

MOVE = 0.9
"""Minimum probability of belonging to the relabel candidate for a move"""


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
    rival_column = "other_identity"

    def score(self, context: Context, progress: Progress | None = None) -> Finding:
        """Evidence: similarity (to the identity's prototype), nearest (to its images),
        other_identity and other_similarity (of the relabel candidate), elsewhere (the probability
        of belonging to it).
        """
        found = context.label_errors
        flagged = found.probability > FLAG
        relabel = np.zeros(len(context.embedded), np.float32)
        which = np.flatnonzero(flagged)
        relabel[which] = relabel_probability(context.embedded, found, which)
        alone = context.embedded.sizes[context.embedded.labels] == 1
        summary = (
            f"{flagged.sum():,} of {len(flagged):,} images do not belong to their identity; "
            f"{(relabel > FLAG).sum():,} of them belong to another one"
        )
        if alone.any():
            images = counted(int(alone.sum()), "image")
            summary += f"; {images} cannot be judged: no other image of the identity"
        evidence = {
            "similarity": np.where(alone, np.nan, found.similarity.prototype).astype(np.float32),
            "nearest": np.where(alone, np.nan, found.similarity.nearest).astype(np.float32),
            "other_identity": found.candidate,
            "other_similarity": found.candidate_similarity,
            "elsewhere": relabel,
        }
        return self.finding(found.probability, evidence, summary)

    def verify(self, finding: Finding, meta: FindingsMeta) -> None:
        require_indices(finding, "other_identity", meta.identities, least=-1)

    def propose(self, finding: Finding, fates: Fates) -> Iterator[Decision]:
        """Move the image if its right identity is nearly certain, otherwise drop it."""
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
        other, relabel = one.named("other_identity"), one.number("elsewhere")
        reason = (
            f"Similarity {decimal(one.number('similarity'))} to its identity's prototype, "
            f"{decimal(one.number('nearest'))} to its nearest three"
        )
        if other < 0:
            return one.shown(f"{reason}; no other identity was compared.")
        reason += f"; {decimal(one.number('other_similarity'))} to identity {other}"
        if relabel > 0:
            reason += f", where it belongs with probability {decimal(relabel)}"
        return one.shown(f"{reason}.", one.row(other, "Nearest other"))


def is_moved(finding: Finding | None, image: int) -> bool:
    """Whether ``misplaced`` flags the image and is sure of its relabel candidate."""
    if finding is None or not finding.flagged[image]:
        return False
    return bool(finding.evidence["elsewhere"][image] >= MOVE)


def relabel_probability(
    images: EmbeddedImages, label_errors: LabelErrors, which: np.ndarray, seed: int = 0
) -> np.ndarray:
    """The probability that each of ``which [n]`` belongs to its relabel candidate, float32; 0
    without one.
    """
    probability = np.zeros(len(which), np.float32)
    there = np.flatnonzero(label_errors.candidate[which] >= 0)
    random = np.random.default_rng(seed)
    trusted = trusted_images(images, label_errors)
    if len(there) == 0 or len(trusted) < 2:
        return probability
    sample = np.sort(random.choice(trusted, min(SAMPLE, len(trusted)), replace=False))
    own = images.labels[sample].astype(np.int64)
    in_class = _features_in(images, label_errors, sample, own)
    ratio = fit_ratio(_hard_negatives(images, label_errors, sample, own), in_class)
    targets = which[there]
    features = _features_in(images, label_errors, targets, label_errors.candidate[targets])
    probability[there] = probabilities(ratio(features))
    return probability


def _features_in(
    images: EmbeddedImages, label_errors: LabelErrors, which: np.ndarray, identities: np.ndarray
) -> np.ndarray:
    """Features of images ``[n]`` in identities ``[n]``, against the best other identity.

    An image of the identity is compared with the other images of it.
    """
    features = []
    for block in blocks(len(which), BLOCK):
        here, targets = which[block], identities[block]
        vectors = images.vectors(here)
        near, found = label_errors.search.search(vectors, OTHERS)
        rival = best_except(near, found, targets)[0]
        inside = (images.labels[here] == targets).all()
        if inside:
            features.append(similarity_features(label_errors.similarity, here, rival))
            continue
        outside = similarity_to_identities(images, label_errors.trust, vectors, targets)
        features.append(similarity_features(outside, np.arange(len(here)), rival))
    return np.concatenate(features)


def _hard_negatives(
    images: EmbeddedImages, label_errors: LabelErrors, sample: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Features of images in the most similar identity other than their own.

    Their own identity is not a rival: an out-of-set person would have none.
    """
    features = []
    for block in blocks(len(sample), BLOCK):
        vectors = images.vectors(sample[block])
        near, which = label_errors.search.search(vectors, OTHERS)
        first = best_except(near, which, own[block])[1]
        there = np.flatnonzero(first >= 0)
        rival = best_except(near, which, own[block], first)[0]
        found = similarity_to_identities(images, label_errors.trust, vectors[there], first[there])
        features.append(similarity_features(found, np.arange(len(there)), rival[there]))
    return np.concatenate(features)
