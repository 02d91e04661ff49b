"""A check for embeddings that identify nobody, from any network."""

import numpy as np

from curation.bad_images import image_name
from curation.errors import UserError
from curation.image_set import ImageSet

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


def check_embeddings(
    raw: np.ndarray, images: ImageSet, indices: np.ndarray, views: np.ndarray | None = None
) -> np.ndarray:
    """Return a teacher's embeddings ``raw`` [n, ..., D] of the images ``indices``.

    Raises ``UserError`` with the image's name if one is zero or not finite, or too large for
    float32. ``views`` [n] are the numbers of augmented views, negative for plain images.
    """
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(raw, axis=-1).reshape(len(raw), -1)
    bad = ~(np.isfinite(norms) & (norms > 0)).all(axis=1)
    if bad.any():
        first = int(np.argmax(bad))
        number = -1 if views is None else int(views[first])
        which = "it" if number < 0 else f"its augmented view {number}"
        raise UnusableEmbeddingsError(
            f"{image_name(images, int(indices[first]))}: the teacher's embedding of {which} is "
            "zero or not finite; check the teacher's preprocessing (colour, mean, std) and its "
            "weights, or make a view without the image (`curate view drop --by key`)"
        )
    return raw
