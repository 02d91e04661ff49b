"""Prototypes of identities, and the similarity of images to them; small dense products only.

The prototype of an identity is the normalised mean of its embeddings, weighted by trust: one minus
the label-error probability. An image is compared with the *other* images of its identity, so that a
few wrong ones neither move the prototype nor confirm each other.
"""

from dataclasses import dataclass

import numpy as np

from curation.neighbours import blocks, normalised

NEAREST = 3
"""A profile resembles other profiles more than the mean, so the nearest images also count."""
_LARGEST_SQUARE = 2048
_POWER_STEPS = 10


@dataclass(frozen=True)
class PrototypeSimilarity:
    """Similarity of n images to one identity each, excluding themselves; all float32 ``[n]``."""

    prototype: np.ndarray
    """Cosine to the identity's prototype; 0 without another image"""
    nearest: np.ndarray
    """Mean of the ``NEAREST`` highest cosines to its images, each multiplied by trust"""
    weight: np.ndarray
    """Sum of the trust in its images"""


def similarity_within(vectors: np.ndarray, trust: np.ndarray) -> PrototypeSimilarity:
    """The similarity of an identity's images, unit ``[n, D]``, to the other ones, with ``trust
    [n]``.
    """
    total = trust @ vectors
    to_total = vectors @ total
    others = to_total - trust
    # |total - t v|^2, for the prototype without the image itself
    square = total @ total - 2 * trust * to_total + trust * trust
    prototype = np.where(square > 1e-6, others / np.sqrt(np.maximum(square, 1e-6)), 0.0)
    nearest = np.zeros(len(vectors), np.float32)
    for block in blocks(len(vectors), _LARGEST_SQUARE):
        cosines = (vectors[block] @ vectors.T) * trust
        here = np.arange(block.start, block.stop)
        cosines[here - block.start, here] = -2.0
        nearest[block] = _mean_of_highest(cosines, len(vectors) - 1)
    weight = (trust.sum() - trust).astype(np.float32)
    return PrototypeSimilarity(prototype.astype(np.float32), nearest, weight)


def similarity_of_outsiders(
    outsiders: np.ndarray, vectors: np.ndarray, trust: np.ndarray
) -> PrototypeSimilarity:
    """The similarity of images ``[m, D]`` to an identity ``[n, D]`` that does not contain them.

    ``weight`` is that of a member image: having one more image to compare with is not evidence.
    """
    prototype = outsiders @ prototype_of(vectors, trust)
    nearest = _mean_of_highest((outsiders @ vectors.T) * trust, len(vectors))
    weight = np.full(len(outsiders), trust.sum() - trust.mean(), np.float32)
    return PrototypeSimilarity(prototype.astype(np.float32), nearest, weight)


def prototype_of(vectors: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """The prototype, unit float32 ``[D]``, of unit vectors ``[n, D]``; 0 if none is trusted."""
    return normalised(trust @ vectors)


def initial_trust(vectors: np.ndarray) -> np.ndarray:
    """The membership of ``[n, D]`` in the identity's densest cluster: float32 ``[n]``, 0 to 1.

    This is the leading eigenvector of the squared positive cosines: images of the same person
    resemble each other, wrong ones resemble none. The largest cluster need not be a majority.
    """
    count = len(vectors)
    if count < 3:
        return np.ones(count, np.float32)
    if count > _LARGEST_SQUARE:
        sample = vectors[np.linspace(0, count - 1, _LARGEST_SQUARE).astype(int)]
        cosines = vectors @ prototype_of(sample, initial_trust(sample))
        return (np.maximum(cosines, 0.0) ** 2).astype(np.float32)
    ties = np.maximum(vectors @ vectors.T, 0.0) ** 2
    np.fill_diagonal(ties, 0.0)
    trust = np.ones(count, np.float32)
    for _ in range(_POWER_STEPS):
        trust = ties @ trust
        trust /= max(float(trust.max()), 1e-12)
    return trust


def _mean_of_highest(cosines: np.ndarray, available: int) -> np.ndarray:
    """The mean of the ``NEAREST`` highest values in each row, or of all if there are fewer."""
    count = min(NEAREST, available)
    if count == 0:
        return np.zeros(len(cosines), np.float32)
    highest = np.partition(cosines, -count, axis=1)[:, -count:]
    return highest.mean(axis=1).astype(np.float32)
