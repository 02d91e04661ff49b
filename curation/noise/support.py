"""How well an identity's images support one of them: dense small products, no search.

Every image is compared with the *other* images of its identity, weighed by how far they are
trusted themselves, so that a few wrong ones neither move the centre nor vouch for each other.
"""

from dataclasses import dataclass

import numpy as np

from curation.neighbours import blocks, normalised

NEAREST = 3
"""A profile is vouched for by other profiles, not by the mean: the nearest count too."""
_LARGEST_SQUARE = 2048
_POWER_STEPS = 10


@dataclass(frozen=True)
class Support:
    """Of n images, each float32 ``[n]``."""

    centre: np.ndarray
    """Cosine to the trusted centre of the others; 0 where there is no other"""
    nearest: np.ndarray
    """Mean of the ``NEAREST`` highest trusted cosines to the others"""
    images: np.ndarray
    """How many others, weighed by trust"""


def support_within(vectors: np.ndarray, trust: np.ndarray) -> Support:
    """Support of each of an identity's images, unit ``[n, D]``, by the others, ``trust [n]``."""
    total = trust @ vectors
    to_total = vectors @ total
    others = to_total - trust
    # |total - t v|^2, of the centre without the image itself
    square = total @ total - 2 * trust * to_total + trust * trust
    centre = np.where(square > 1e-6, others / np.sqrt(np.maximum(square, 1e-6)), 0.0)
    nearest = np.zeros(len(vectors), np.float32)
    for block in blocks(len(vectors), _LARGEST_SQUARE):
        cosines = (vectors[block] @ vectors.T) * trust
        here = np.arange(block.start, block.stop)
        cosines[here - block.start, here] = -2.0
        nearest[block] = _mean_of_highest(cosines, len(vectors) - 1)
    return Support(centre.astype(np.float32), nearest, (trust.sum() - trust).astype(np.float32))


def support_for(strangers: np.ndarray, vectors: np.ndarray, trust: np.ndarray) -> Support:
    """Support of images ``[m, D]`` by an identity ``[n, D]`` that does not hold them.

    ``images`` is what one of the identity's own has: to have one other more is no sign of a
    stranger.
    """
    to_centre = strangers @ centre_of(vectors, trust)
    nearest = _mean_of_highest((strangers @ vectors.T) * trust, len(vectors))
    images = np.full(len(strangers), trust.sum() - trust.mean(), np.float32)
    return Support(to_centre.astype(np.float32), nearest, images)


def centre_of(vectors: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """The unit centre float32 ``[D]`` of unit vectors ``[n, D]``; zero where none is trusted."""
    return normalised(trust @ vectors)


def initial_trust(vectors: np.ndarray) -> np.ndarray:
    """How much each of ``[n, D]`` belongs to the identity's densest part: float32 ``[n]``, 0 ... 1.

    The leading eigenvector of the squared positive cosines: images of the same person hold each
    other up, wrong ones resemble nobody. It holds up to where the largest group is a minority.
    """
    count = len(vectors)
    if count < 3:
        return np.ones(count, np.float32)
    if count > _LARGEST_SQUARE:
        sample = vectors[np.linspace(0, count - 1, _LARGEST_SQUARE).astype(int)]
        cosines = vectors @ centre_of(sample, initial_trust(sample))
        return (np.maximum(cosines, 0.0) ** 2).astype(np.float32)
    ties = np.maximum(vectors @ vectors.T, 0.0) ** 2
    np.fill_diagonal(ties, 0.0)
    trust = np.ones(count, np.float32)
    for _ in range(_POWER_STEPS):
        trust = ties @ trust
        trust /= max(float(trust.max()), 1e-12)
    return trust


def _mean_of_highest(cosines: np.ndarray, available: int) -> np.ndarray:
    """Mean of the ``NEAREST`` highest of each row, or of as many as there are."""
    count = min(NEAREST, available)
    if count == 0:
        return np.zeros(len(cosines), np.float32)
    highest = np.partition(cosines, -count, axis=1)[:, -count:]
    return highest.mean(axis=1).astype(np.float32)
