"""The review order: the most informative cases first."""

import numpy as np


def expected_information(scores: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The expected information of an answer, weighted by the number of images: float64 ``[n]``.

    This is the entropy in bits of the probabilities ``scores`` ``[n]``, highest at one half, times
    ``log2(1 + images)``, where ``images`` ``[n]`` counts the images of the identities in question.
    """
    p = np.clip(np.asarray(scores, np.float64), 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return np.nan_to_num(bits) * np.log2(1.0 + np.asarray(images, np.float64))


def review_order(scores: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Indices int64 ``[n]`` by descending expected information; ties keep their order."""
    return np.argsort(-expected_information(scores, images), kind="stable")
