"""Identities that are also in evaluation sets and must not be used for training.

Each evaluation image is compared with the prototypes of all identities. The same-person cosines are
learned from images and the prototype of the other images of their identity or, if no identity has
two images, from the genuine pairs of the evaluation sets. Those of hard negatives are learned from
the evaluation images themselves, most of which show people who are not in the data set; see
``calibration``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from curation.noise.calibration import fit_cosine_ratio, probabilities, size_class
from curation.noise.check import FLAG, Context, Fates, NoiseCheck, check
from curation.noise.decisions import Decision
from curation.noise.embedded import EmbeddedImages, EvaluationImages
from curation.noise.findings import Finding, FindingsMeta, require_indices
from curation.noise.label_errors import SAMPLE, LabelErrors, trusted_images
from curation.noise.presentation import Evidence, Explanation, ScoredSubject, ShownFace
from curation.progress import Progress
from curation.wording import decimal


@check(
    "overlap",
    "identity",
    order=60,
    precedence=10,
    explanation=Explanation(
        "Identities that are in an evaluation set",
        "Somebody in the evaluation set looks like this identity: training on it would make the "
        "evaluation look better than it is.",
        "Is the evaluation image, on the left, the person in the row?",
        "The identity is left out with all its images.",
    ),
)
class Overlap(NoiseCheck):
    """People of an evaluation set, who must not be used for training."""

    uses_evaluation_sets = True

    def score(self, context: Context, progress: Progress | None = None) -> Finding:
        """Evidence: set (index of the evaluation set), image (in it), similarity (cosine)."""
        found = find_overlap(
            context.embedded, context.label_errors, context.evaluation, progress=progress
        )
        scores = found.probability
        names = ", ".join(one.name for one in context.evaluation) or "no evaluation set given"
        return self.finding(
            scores,
            {"set": found.set, "image": found.image, "similarity": found.similarity},
            f"{(scores > FLAG).sum():,} of {len(scores):,} identities are in an evaluation set "
            f"({names})",
        )

    def verify(self, finding: Finding, meta: FindingsMeta) -> None:
        require_indices(finding, "set", least=-1)
        require_indices(finding, "image", least=-1)
        evidence = finding.evidence
        if {"set", "image"} <= evidence.keys() and (
            evidence["image"][evidence["set"] >= 0] < 0
        ).any():
            raise ValueError("an evaluation set is named, but none of its images")

    def propose(self, finding: Finding, fates: Fates) -> Iterator[Decision]:
        for identity in np.flatnonzero(finding.flagged & ~fates.gone).tolist():
            fates.gone[identity] = fates.settled[fates.images.images_of(identity)] = True
            similarity = finding.evidence["similarity"][identity]
            image, number = finding.evidence["image"][identity], finding.evidence["set"][identity]
            note = f"image {image} of evaluation set {number}, cosine {similarity:.3f}"
            score = float(finding.scores[identity])
            yield Decision("drop-identity", identity, score=score, note=note)

    def propose_one(self, one: ScoredSubject) -> list[Decision]:
        return [Decision("drop-identity", one.index)]

    def evidence(self, one: ScoredSubject) -> Evidence:
        place, image = one.named("set"), one.named("image")
        if place < 0:
            return one.shown("No evaluation image was similar.")
        name, similarity = one.evaluation[place], decimal(one.number("similarity"))
        return one.shown(
            f"Similarity {similarity} to image {image} of {name}.",
            faces=[ShownFace(image, evaluation=place)],
        )


@dataclass(frozen=True)
class EvaluationMatches:
    """The result for K identities."""

    probability: np.ndarray
    """float32 ``[K]``: of being in an evaluation set"""
    set: np.ndarray
    """int64 ``[K]``: the index of the evaluation set; -1 if none came near"""
    image: np.ndarray
    """int64 ``[K]``: the image of that set"""
    similarity: np.ndarray
    """float32 ``[K]``: cosine between that image and the identity's prototype"""


def find_overlap(
    images: EmbeddedImages,
    label_errors: LabelErrors,
    evaluation: Sequence[EvaluationImages],
    seed: int = 0,
    progress: Progress | None = None,
) -> EvaluationMatches:
    """Judge every identity by the evaluation image nearest to it; progress counts images."""
    found = EvaluationMatches(
        np.zeros(images.identities, np.float32),
        np.full(images.identities, -1, np.int64),
        np.full(images.identities, -1, np.int64),
        np.full(images.identities, -1.0, np.float32),
    )
    counts = [len(one.vectors) for one in evaluation]
    same, size = _own_prototypes(images, label_errors, np.random.default_rng(seed))
    if not len(same):
        same = np.concatenate([*(one.genuine_cosines() for one in evaluation), same])
        size = np.ones(len(same))
    if sum(counts) == 0 or len(same) == 0:  # no genuine pair, no reference
        return found
    vectors = np.concatenate([one.vectors for one in evaluation])
    similarity, identity = label_errors.search.search(vectors, 1, progress)
    similarity, identity = similarity[:, 0], identity[:, 0]
    weights = np.add.reduceat(label_errors.trust, images.offsets[:-1])
    ratio = fit_cosine_ratio(similarity, same, size_class(size))
    probability = probabilities(ratio(similarity, size_class(weights[identity])))
    order = np.argsort(probability, kind="stable")
    which = np.repeat(np.arange(len(counts)), counts)
    within = np.concatenate([np.arange(count) for count in counts])
    # In ascending order, so the last assignment to an identity is its highest.
    found.probability[identity[order]] = probability[order]
    found.set[identity[order]], found.image[identity[order]] = which[order], within[order]
    found.similarity[identity[order]] = similarity[order]
    return found


def _own_prototypes(
    images: EmbeddedImages, label_errors: LabelErrors, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of a sample of trusted images to the prototype of the other images of their identity,
    and the weights of those prototypes: both ``[M]``.
    """
    trusted = trusted_images(images, label_errors)
    sample = np.sort(random.choice(trusted, min(SAMPLE, len(trusted)), replace=False))
    return label_errors.similarity.prototype[sample], label_errors.similarity.weight[sample]
