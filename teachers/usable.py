"""A check of embeddings that identify nobody, whatever network they are from."""

import numpy as np

from curation.errors import UserError

_SUM_OFF = 2e-3
"""Tolerance for the sum of a softmax; float16 has 11 bits"""


class UnusableEmbeddingsError(UserError):
    """The embeddings of real images that nothing can be measured with."""


def random_images(count: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 RGB [count, *size, 3], equal in every run."""
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def why_unusable(embeddings: np.ndarray) -> str | None:
    """Why these embeddings [N, D] of N >= 2 `random_images` are useless, or None."""
    if not np.isfinite(embeddings).all():
        return "its embeddings are not finite"
    if (embeddings >= 0).all() and np.allclose(embeddings.sum(1), 1, atol=_SUM_OFF):
        return (
            "it is not negative and sums to 1: these are a classifier's probabilities; export the "
            "network without its last layers"
        )
    if np.array_equal(embeddings[0], embeddings[1]):
        return (
            "two different images give the same embedding, so it does not depend on the images "
            "under this preprocessing"
        )
    return None
