"""A random sample of all pairs of a set, large enough to estimate how much a figure varies."""

import numpy as np

from distill.evaluation.pair_scores import PairScores, listed_scores

MOST_GENUINE, MOST_IMPOSTORS = 10_000, 40_000


def sampled_scores(features: np.ndarray, labels: np.ndarray) -> PairScores:
    """Scores of sampled genuine and impostor pairs of unit ``features`` [N, D], ``labels`` [N].

    If there are few genuine pairs, all are used. The same labels give the same pairs, so that
    networks can be compared.
    """
    generator = np.random.default_rng(0)
    left, right = np.concatenate(
        [_genuine(labels, generator), _impostors(labels, generator)], axis=1
    )
    cosines = np.einsum("nd,nd->n", features[left], features[right])
    people = np.unique(labels, return_inverse=True)[1].astype(np.int32)
    return listed_scores(cosines, labels[left] == labels[right], people[left], people[right])


def _genuine(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Indices [2, P] of the images of genuine pairs."""
    order = np.argsort(labels, kind="stable")
    _, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    ends = np.cumsum(sizes * (sizes - 1) // 2)
    total = int(ends[-1]) if len(ends) else 0
    if total > MOST_GENUINE:
        chosen = np.unique(generator.integers(total, size=MOST_GENUINE))
    else:
        chosen = np.arange(total)
    identity = np.searchsorted(ends, chosen, side="right")
    number = ends[identity] - 1 - chosen
    # The pairs of an identity are numbered (1, 0), (2, 0), (2, 1), (3, 0) ...
    later = ((1 + np.sqrt(1 + 8 * number)) // 2).astype(np.int64)
    later -= later * (later - 1) // 2 > number
    earlier = number - later * (later - 1) // 2
    return np.stack([order[starts[identity] + earlier], order[starts[identity] + later]])


def _impostors(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    pairs = generator.integers(len(labels), size=(2, MOST_IMPOSTORS))
    return pairs[:, labels[pairs[0]] != labels[pairs[1]]]
