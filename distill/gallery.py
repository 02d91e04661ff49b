"""Galleries of embeddings in int8 with a scale per vector: a quarter of float32's memory."""

import numpy as np

_LARGEST = 127
_ROWS = 1 << 16
"""Rows of the gallery that are converted to float32 at a time"""


def pack(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, D] as int8 codes [N, D] and scales float32 [N], such that
    ``codes * scales[:, None]`` approximates them. ``ValueError`` if they are not finite."""
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError(f"features must be finite [N, D], not {list(features.shape)}")
    largest = np.abs(features).max(axis=1, initial=0).astype(np.float32)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    codes = np.rint(features / scales[:, None]).clip(-_LARGEST, _LARGEST)
    return codes.astype(np.int8), scales


def unpack(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Unit features, float32 [N, D]; zero vectors stay zero."""
    features = codes.astype(np.float32) * scales[:, None]
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(lengths == 0, 1, lengths)


def cosines(probes: np.ndarray, codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Cosines float32 [P, N] of unit float32 probes [P, D] and a packed gallery [N, D]."""
    found = np.empty((len(probes), len(codes)), np.float32)
    for start in range(0, len(codes), _ROWS):
        part = slice(start, start + _ROWS)
        np.matmul(probes, unpack(codes[part], scales[part]).T, out=found[:, part])
    return found
