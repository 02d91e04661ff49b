"""Random unit features of people, for tests of measures."""

import numpy as np


def unit_features(
    images: int, identities: int, seed: int, spread: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, 8] around a centre per identity, in random order, and their labels [N]."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, identities, images)
    features = generator.normal(size=(identities, 8))[labels]
    features = features + spread * generator.normal(size=(images, 8))
    return normalised(features), labels


def tied_features(images: int, identities: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features with few distinct cosines, exact in float32 for any order of summation."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, identities, images)
    signs = np.where(generator.random((images, 4)) < 0.5, -0.5, 0.5)
    return signs.astype(np.float32), labels


def normalised(features: np.ndarray) -> np.ndarray:
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
