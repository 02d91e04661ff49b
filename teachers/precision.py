"""Unit vectors with one byte per value: half of float16, and as good for a teacher's embeddings."""

import numpy as np

LARGEST = 127


def to_int8(vectors: np.ndarray) -> np.ndarray:
    """int8 [..., D] of vectors [..., D], each scaled so that its largest value is 127 or -127.

    The scale is not stored, because normalisation recovers it. The cosine to the original vector is
    above 0.9999 (docs/training.md).
    """
    highest = np.abs(vectors).max(axis=-1, keepdims=True)
    return np.rint(vectors * (LARGEST / highest)).astype(np.int8)


def from_int8(stored: np.ndarray) -> np.ndarray:
    """Unit vectors float16 [..., D] from the result of ``to_int8``; zeros stay zeros."""
    values = stored.astype(np.float32)
    lengths = np.sqrt(np.square(values).sum(axis=-1, keepdims=True))
    return (values / np.maximum(lengths, 1.0)).astype(np.float16)
