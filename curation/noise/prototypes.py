"""Prototypes of identities, and how similar images are to them: dense small products, no search.

An identity's prototype is the normalised mean of its embeddings, weighted by trust: one minus the
label-error probability. An image is compared with the *other* images of its identity, so that a few
wrong ones neither move the prototype nor confirm each other.
"""

from dataclasses import dataclass

import numpy as np

from curation.neighbours import blocks, normalised

NEAREST = 3
"""A profile resembles other profiles more than the mean, so the nearest images count too."""
_LARGEST_SQUARE = 2048
_POWER_STEPS = 10


@dataclass(frozen=True)
class PrototypeSimilarity:
    """Similarity of n images to an identity each, without themselves; all float32 ``[n]``."""

    prototype: np.ndarray
    """Cosine to the identity's prototype; 0 where there is no other image"""
    nearest: np.ndarray
    """Mean of the ``NEAREST`` highest cosines to its images, each times its trust"""
    weight: np.ndarray
    """Sum of the trust in its images"""


def similarity_within(vectors: np.ndarray, trust: np.ndarray) -> PrototypeSimilarity:
    """Of each of an identity's images, unit ``[n, D]``, to the others, with ``trust [n]``."""
    total = trust @ vectors
    to_total = vectors @ total
    others = to_total - trust
    # |total - t v|^2, of the prototype without the image itself
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
    """Of images ``[m, D]`` to an identity ``[n, D]`` that does not hold them.

    ``weight`` is that of an image of the identity: one more to compare with is no sign of an error.
    """
    prototype = outsiders @ prototype_of(vectors, trust)
    nearest = _mean_of_highest((outsiders @ vectors.T) * trust, len(vectors))
    weight = np.full(len(outsiders), trust.sum() - trust.mean(), np.float32)
    return PrototypeSimilarity(prototype.astype(np.float32), nearest, weight)


def prototype_of(vectors: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """The prototype, unit float32 ``[D]``, of unit vectors ``[n, D]``; 0 where none is trusted."""
    return normalised(trust @ vectors)


def initial_trust(vectors: np.ndarray) -> np.ndarray:
    """How much each of ``[n, D]`` belongs to the identity's densest part: float32 ``[n]``, 0 ... 1.

    The leading eigenvector of the squared positive cosines: images of the same person resemble each
    other, wrong ones resemble nobody. The largest group need not be a majority.
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
    """Mean of the ``NEAREST`` highest of each row, or of as many as there are."""
    count = min(NEAREST, available)
    if count == 0:
        return np.zeros(len(cosines), np.float32)
    highest = np.partition(cosines, -count, axis=1)[:, -count:]
    return highest.mean(axis=1).astype(np.float32)
