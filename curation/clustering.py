"""Groups unlabelled faces into identities by their embeddings alone.

The cosines between strangers are measured for this teacher on random pairs. Both limits follow
from them, without a threshold to choose:

* *Sure links*: a cosine so high that only one pair of strangers in the whole set is expected to
  reach it. Images connected by such links are one person, however different their poses.
* *Merges*: two groups are one person if the mean cosine between their images exceeds the value at
  which a quarter of a stranger is expected per image. The means of larger groups vary less, so
  their limit is lower. Each round merges the pairs of groups that are each other's best match,
  until no pair qualifies.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from curation.neighbours import blocks, near_each
from curation.progress import Progress

NEIGHBOURS = 32
"""Pairs examined per image"""
SURE_STRANGERS = 1.0
"""Pairs of strangers in the whole set expected above the cosine of a sure link"""
MERGE_STRANGERS = 0.25
"""Strangers per image expected above the cosine of a merge"""
LEAST_COUNT = 1_000
"""Smaller sets use the limits of this many images: fewer people are not more similar"""
PERSON_SHARE = 0.62
"""Share of the variance of strangers' cosines that remains between large groups"""
_RANDOM_PAIRS = 500_000
_TRIMS, _TRIM_AT = 8, 3.5
_BLOCK = 1 << 16
_MOST_ROUNDS = 200


@dataclass(frozen=True)
class Strangers:
    """The cosines of strangers as a normal distribution, estimated from quantiles of random pairs,
    nearly all of which are strangers."""

    middle: float
    spread: float

    def spread_of(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """The standard deviation of the mean cosine between groups of these sizes."""
        own = (1 - PERSON_SHARE) / 2
        return self.spread * np.sqrt(PERSON_SHARE + own / first + own / second)

    def sure(self, count: int) -> float:
        """The cosine of a sure link among ``count`` images."""
        pairs = count * (count - 1) / 2
        return self.middle + self.spread * _deviations(SURE_STRANGERS / pairs)


def measure_strangers(vectors: np.ndarray, seed: int = 0) -> Strangers:
    """Estimate from unit vectors ``[N, D]``."""
    random = np.random.default_rng(seed)
    cosines = []
    for block in blocks(_RANDOM_PAIRS, _BLOCK):
        first, second = random.integers(0, len(vectors), (2, block.stop - block.start))
        apart = first != second
        cosines.append(np.einsum("nd,nd->n", vectors[first[apart]], vectors[second[apart]]))
    left = np.concatenate(cosines)
    for _ in range(_TRIMS):  # drops pairs of one person, frequent if people are few
        low, middle = np.quantile(left, [0.1587, 0.5])
        spread = max(float(middle - low), 1e-3)
        left = left[left < middle + _TRIM_AT * spread]
    return Strangers(float(middle), spread)


def group_faces(
    vectors: np.ndarray, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Groups int64 ``[N]`` of unit vectors float32 ``[N, D]``, and each group's certainty ``[G]``.

    Groups are numbered by their first image. The certainty is 1 minus the strangers expected per
    image above the lowest cosine that formed the group, from 0 to 1; 1 for a single image.
    Progress counts images during the neighbour search.
    """
    count = len(vectors)
    if count < 2:
        return np.zeros(count, np.int64), np.ones(count)
    strangers = measure_strangers(vectors)
    among = max(count, LEAST_COUNT)
    limit = _deviations(MERGE_STRANGERS / among)
    pairs, cosines = _near_pairs(vectors, strangers, limit, progress)
    sure = cosines >= strangers.sure(among)
    groups = connected(count, pairs[sure])
    state = _Groups(vectors, groups, strangers, limit)
    state.merge_all(pairs)
    own = state.own[groups]
    first = np.full(len(state.size), count)
    np.minimum.at(first, own, np.arange(count))
    _, order, new = np.unique(first[own], return_index=True, return_inverse=True)
    strangers_expected = among * np.array([_tail(z) for z in state.least[own[order]]])
    return new, np.clip(1 - strangers_expected, 0, 1)


def connected(count: int, pairs: np.ndarray) -> np.ndarray:
    """The component, int64 ``[N]`` from 0, of each of ``count`` nodes, given edges ``[P, 2]``."""
    least = np.arange(count)
    while True:
        left, right = least[pairs[:, 0]], least[pairs[:, 1]]
        apart = left != right
        if not apart.any():
            return np.unique(least, return_inverse=True)[1]
        pairs, left, right = pairs[apart], left[apart], right[apart]
        np.minimum.at(least, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(least, above := least[least]):
            least = above


def _near_pairs(
    vectors: np.ndarray, strangers: Strangers, limit: float, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs int64 ``[P, 2]``, the smaller index first, that could connect two groups."""
    cosines, which = near_each(vectors, NEIGHBOURS, progress)
    largest = np.array([np.inf])
    lowest = strangers.middle + limit * float(strangers.spread_of(largest, largest)[0])
    high = (cosines >= lowest) & (which >= 0)
    own = np.broadcast_to(np.arange(len(vectors))[:, None], which.shape)[high]
    theirs, near = which[high], cosines[high]
    keys = np.minimum(own, theirs) * len(vectors) + np.maximum(own, theirs)
    keys, once = np.unique(keys, return_index=True)
    pairs = np.column_stack(np.divmod(keys, len(vectors)))
    different = pairs[:, 0] != pairs[:, 1]
    return pairs[different], near[once][different]


class _Groups:
    """Groups during merging: ``own`` maps each initial group to its current one."""

    def __init__(
        self, vectors: np.ndarray, groups: np.ndarray, strangers: Strangers, limit: float
    ) -> None:
        count = int(groups.max()) + 1
        self.own = np.arange(count)
        self.size = np.bincount(groups).astype(np.float64)
        self.least = np.full(count, np.inf)
        """The lowest score, in standard deviations above strangers, of each group's merges"""
        self._of, self._strangers, self._limit = groups, strangers, limit
        self._sums = np.zeros((count, vectors.shape[1]), np.float32)
        for block in blocks(len(vectors), _BLOCK):
            np.add.at(self._sums, groups[block], vectors[block])

    def merge_all(self, pairs: np.ndarray) -> None:
        """Merge groups along the image pairs ``pairs`` until no two groups are similar enough."""
        links = self._distinct(self._of[pairs])
        scores = self._scores(links)
        for _ in range(_MOST_ROUNDS):
            alike = scores >= self._limit
            links, scores = links[alike], scores[alike]
            chosen = self._mutual_best(links, scores)
            if not chosen.any():
                return
            into, gone = links[chosen].T
            self._merge(into, gone, scores[chosen])
            links = self._distinct(self.own[links])
            scores = self._scores(links)

    def _distinct(self, links: np.ndarray) -> np.ndarray:
        """Pairs of different groups without duplicates, the smaller number first."""
        low, high = links.min(axis=1), links.max(axis=1)
        keys = np.unique((low * len(self.size) + high)[low != high])
        return np.column_stack(np.divmod(keys, len(self.size)))

    def _scores(self, links: np.ndarray) -> np.ndarray:
        """Standard deviations by which each pair of groups' mean cosine exceeds strangers'."""
        dots = np.empty(len(links), np.float64)
        for block in blocks(len(links), _BLOCK):
            first, second = links[block].T
            dots[block] = np.einsum("pd,pd->p", self._sums[first], self._sums[second])
        first, second = self.size[links[:, 0]], self.size[links[:, 1]]
        means = dots / (first * second)
        return (means - self._strangers.middle) / self._strangers.spread_of(first, second)

    def _mutual_best(self, links: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The pairs that are each other's best match; of equally good ones, one."""
        place = np.empty(len(links), np.int64)
        place[np.argsort(-scores, kind="stable")] = np.arange(len(links))
        best = np.full(len(self.size), len(links))
        for side in (0, 1):
            np.minimum.at(best, links[:, side], place)
        return (best[links[:, 0]] == place) & (best[links[:, 1]] == place)

    def _merge(self, into: np.ndarray, gone: np.ndarray, scores: np.ndarray) -> None:
        self._sums[into] += self._sums[gone]
        self.size[into] += self.size[gone]
        self.least[into] = np.minimum(np.minimum(self.least[into], self.least[gone]), scores)
        follow = np.arange(len(self.size))
        follow[gone] = into
        self.own = follow[self.own]


def _deviations(probability: float) -> float:
    """The number of standard deviations that a normal value exceeds with this probability."""
    return -NormalDist().inv_cdf(min(max(probability, 1e-300), 0.5))


def _tail(deviations: float) -> float:
    """The probability that a normal value exceeds this many standard deviations."""
    return math.erfc(deviations / math.sqrt(2)) / 2
