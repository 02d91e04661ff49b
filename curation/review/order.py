"""The order of cases: first those whose answer is expected to tell most."""

import numpy as np


def expected_information(scores: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Bits that an answer is expected to give, weighted by whom it is about: float64 ``[n]``.

    The entropy of the probabilities ``scores`` ``[n]``, which is highest at one half, times
    ``log2(1 + images)``, where ``images`` ``[n]`` counts those of the identities in question.
    """
    p = np.clip(np.asarray(scores, np.float64), 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return np.nan_to_num(bits) * np.log2(1.0 + np.asarray(images, np.float64))


def review_order(scores: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Places int64 ``[n]``, those with the most expected information first; ties stay in order."""
    return np.argsort(-expected_information(scores, images), kind="stable")
