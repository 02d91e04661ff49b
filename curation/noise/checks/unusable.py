"""Images without a recognisable face: no face at all, or one too blurred.

They fit no identity. A network trained with a margin on unit vectors gives them short embeddings,
and they resemble every identity less than another person's face does. The trusted images provide
the distributions of the norm and of the similarity to the nearest other identity. An image's
shortfall in both is its distance from faces. Among possibly mislabelled images, a second, distant
cluster is unusable: a mixture of two normal distributions, the first known, the second fitted.
"""

import numpy as np

from curation.neighbours import blocks
from curation.noise.check import FLAG, Context, NoiseCheck, check
from curation.noise.embedded import EmbeddedImages
from curation.noise.findings import Finding
from curation.noise.label_errors import BLOCK, SAMPLE, LabelErrors, best_except, trusted_images
from curation.noise.presentation import Evidence, Explanation, ScoredSubject
from curation.progress import Progress
from curation.wording import decimal

LEAST_DISTANCE = 2.5
"""Minimum distance between the two clusters in standard deviations of faces; nearer ones are faces
"""
LOOSE = 0.05
"""Minimum label-error probability: an image that fits nowhere need not be clearly mislabelled"""
_STEPS = 50


@check(
    "unusable",
    "image",
    order=50,
    precedence=20,
    explanation=Explanation(
        "Unusable images",
        "The embedding is short and far from all identities: no face, or an unrecognisable one.",
        "Could you tell who this is? Sharp faces in unusual poses are the usual false alarms.",
        "The image is left out.",
    ),
)
class Unusable(NoiseCheck):
    """No face, or one too blurred to recognise."""

    def score(self, context: Context, progress: Progress | None = None) -> Finding:
        """Evidence: norm (of the embedding), similarity (highest to any prototype it was compared
        with).
        """
        scores = unusable_probability(context.embedded, context.label_errors)
        label_errors = context.label_errors
        best = np.maximum(label_errors.similarity.prototype, label_errors.candidate_similarity)
        return self.finding(
            scores,
            {"norm": context.embedded.lengths(), "similarity": best},
            f"{(scores > FLAG).sum():,} of {len(scores):,} images show no recognisable face",
        )

    def note(self, finding: Finding, at: int) -> str:
        return f"embedding of length {finding.evidence['norm'][at]:.2f}"

    def evidence(self, one: ScoredSubject) -> Evidence:
        return one.shown(
            f"Embedding length {decimal(one.number('norm'))}; highest similarity to a prototype "
            f"{decimal(one.number('similarity'))}."
        )


def unusable_probability(
    images: EmbeddedImages, label_errors: LabelErrors, seed: int = 0
) -> np.ndarray:
    """float32 ``[N]``: the probability that an image has no usable face; 0 if the
    label is right.
    """
    probability = np.zeros(len(images), np.float32)
    alone = images.sizes[images.labels] == 1
    trusted = trusted_images(images, label_errors)
    if not len(trusted):  # without identities of two images, all count as faces, by the median
        trusted = np.arange(len(images))
    loose = np.flatnonzero((label_errors.quality_blind > LOOSE) | alone)
    if len(trusted) < 2 or len(loose) == 0:
        return probability
    random = np.random.default_rng(seed)
    faces = np.sort(random.choice(trusted, min(SAMPLE, len(trusted)), replace=False))
    measures = [
        (np.log(np.maximum(images.lengths(), 1e-6)).astype(np.float64)[which], resembling)
        for which, resembling in (
            (faces, _best_other(images, label_errors, faces)),
            (loose, _best_other(images, label_errors, loose)),
        )
    ]
    distance = _distance(*measures)
    if distance is not None:
        probability[loose] = _second_group(distance)
    return probability


def _best_other(images: EmbeddedImages, label_errors: LabelErrors, which: np.ndarray) -> np.ndarray:
    """The cosine of images ``[n]`` to the nearest prototype other than their own:
    float32 ``[n]``.
    """
    best = np.full(len(which), -1.0, np.float32)
    for block in blocks(len(which), BLOCK):
        here = which[block]
        near, found = label_errors.search.search(images.vectors(here), 2)
        best[block] = best_except(near, found, images.labels[here])[0]
    return best


def _distance(
    faces: tuple[np.ndarray, np.ndarray], loose: tuple[np.ndarray, np.ndarray]
) -> np.ndarray | None:
    """The shortfall of ``loose`` in both measures, in standard deviations of faces.

    None if the measures are constant.
    """
    short = [_shortfall(known, scored) for known, scored in zip(faces, loose, strict=True)]
    known, scored = (np.sum(parts, axis=0) for parts in zip(*short, strict=True))
    middle = np.median(known)
    spread = middle - np.quantile(known, 0.1587)
    return None if spread < 1e-3 else (scored - middle) / spread


def _shortfall(known: np.ndarray, scored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in standard deviations of ``known`` below its median; 0 above it."""
    middle = np.median(known)
    spread = middle - np.quantile(known, 0.1587)
    if spread < 1e-3:
        return np.zeros(len(known)), np.zeros(len(scored))
    return np.minimum((known - middle) / spread, 0), np.minimum((scored - middle) / spread, 0)


def _second_group(distance: np.ndarray) -> np.ndarray:
    """Posterior ``[n]`` of the lower cluster; the upper cluster is N(0, 1)."""
    centre, spread, share = -2 * LEAST_DISTANCE, 1.5, 0.1
    posterior = np.zeros(len(distance))
    for _ in range(_STEPS):
        lower = share * np.exp(-0.5 * ((distance - centre) / spread) ** 2) / spread
        # Below its own centre, the lower cluster has no competitor.
        upper = (1 - share) * np.exp(-0.5 * np.maximum(distance, -8.0) ** 2)
        posterior = np.where(distance <= centre, 1.0, lower / (lower + upper + 1e-300))
        weight = posterior.sum() + 1e-9
        share = min(max(weight / len(distance), 1e-4), 0.9)
        centre = min(float((posterior * distance).sum() / weight), -LEAST_DISTANCE)
        deviation = float(np.sqrt((posterior * (distance - centre) ** 2).sum() / weight))
        spread = min(max(deviation, 0.5), 4.0)
    return np.where(distance < -LEAST_DISTANCE, posterior, 0.0)
