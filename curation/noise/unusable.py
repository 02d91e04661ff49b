"""Pictures that show no face one could know again: none at all, or one too blurred.

A network that was trained with a margin on unit vectors gives such pictures short embeddings, and
they belong to nobody. How long the embeddings of faces are, the trusted images tell. Among those
that are not in place, a second group with much shorter ones is the unusable: a mixture of two
normal distributions of log length, the first known, the second fitted.
"""

import numpy as np

from curation.noise.embedded import EmbeddedImages
from curation.noise.membership import Membership

LEAST_DISTANCE = 2.5
"""Standard deviations of faces' log length between the two groups; nearer ones are faces"""
_STEPS = 50


def unusable_probability(images: EmbeddedImages, membership: Membership) -> np.ndarray:
    """float32 ``[N]``: how probably each image shows no usable face; 0 for those in place."""
    length = np.log(np.maximum(images.lengths(), 1e-6)).astype(np.float64)
    sizes = images.sizes[images.labels]
    trusted = (membership.trust > 0.5) & (sizes > 1)
    alone = sizes == 1
    loose = (membership.probability > 0.5) | alone
    probability = np.zeros(len(images), np.float32)
    if trusted.sum() < 2 or not loose.any():
        return probability
    middle = float(np.median(length[trusted]))
    spread = _spread_below(length[trusted], middle)
    if spread < 1e-3:  # all of one length: it says nothing about the picture
        return probability
    distance = (length[loose] - middle) / spread
    probability[loose] = _second_group(distance)
    return probability


def _spread_below(length: np.ndarray, middle: float) -> float:
    """Standard deviation from the median down, by a quantile: the long side does not matter."""
    return float(middle - np.quantile(length, 0.1587))


def _second_group(distance: np.ndarray) -> np.ndarray:
    """Posterior ``[n]`` of the lower group in standard deviations of the upper, N(0, 1)."""
    centre, spread, share = -2 * LEAST_DISTANCE, 1.5, 0.1
    for _ in range(_STEPS):
        lower = share * np.exp(-0.5 * ((distance - centre) / spread) ** 2) / spread
        # Beyond its own centre the lower group has no competitor.
        upper = (1 - share) * np.exp(-0.5 * np.maximum(distance, -8.0) ** 2)
        posterior = np.where(distance <= centre, 1.0, lower / (lower + upper + 1e-300))
        weight = posterior.sum() + 1e-9
        share = min(max(weight / len(distance), 1e-4), 0.9)
        centre = min(float((posterior * distance).sum() / weight), -LEAST_DISTANCE)
        spread = min(
            max(float(np.sqrt((posterior * (distance - centre) ** 2).sum() / weight)), 0.5), 4.0
        )
    return np.where(distance < -LEAST_DISTANCE, posterior, 0.0)
