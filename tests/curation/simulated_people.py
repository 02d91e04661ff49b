"""Simulated embeddings: every person is a direction, every image a vector near it."""

from collections.abc import Sequence

import numpy as np

from curation.neighbours import normalised
from curation.noise.embedded import EmbeddedImages

DIMENSION = 64
SPREAD = 0.8
"""Norm of an image's own part relative to its person's unit vector: cosines of about 0.6"""


def people(
    sizes: Sequence[int], seed: int = 0, spread: float = SPREAD, dimension: int = DIMENSION
) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors ``[N, D]``, person after person, and their people ``[N]``."""
    random = np.random.default_rng(seed)
    centres = normalised(random.normal(size=(len(sizes), dimension)))
    person = np.repeat(np.arange(len(sizes)), sizes)
    own = random.normal(size=(len(person), dimension)) * spread / np.sqrt(dimension)
    return normalised(centres[person] + own), person


def wrongly_labelled(person: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Labels ``[N]`` of which this random share is another person's."""
    random = np.random.default_rng(seed)
    wrong = random.choice(len(person), round(share * len(person)), replace=False)
    labels, others = person.copy(), int(person.max())
    labels[wrong] = (labels[wrong] + random.integers(1, others + 1, len(wrong))) % (others + 1)
    return labels


def embedded(
    vectors: np.ndarray, labels: Sequence[int] | np.ndarray, norm: np.ndarray | None = None
) -> EmbeddedImages:
    """Images with these vectors, labels (ascending) and norms, by default 1."""
    norm = np.ones(len(labels), np.float32) if norm is None else norm
    return EmbeddedImages(np.asarray(labels), vectors, norm, np.arange(len(labels)))


def in_order(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order that makes identities contiguous, and the labels in it, from 0 without gaps."""
    order = np.argsort(labels, kind="stable")
    return order, np.unique(labels[order], return_inverse=True)[1]


def f1(flagged: np.ndarray, wrong: np.ndarray) -> float:
    """The F1 score of flags against the truth, both bool ``[N]``."""
    return float(2 * (flagged & wrong).sum() / max(flagged.sum() + wrong.sum(), 1))
