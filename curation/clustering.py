"""Unlabelled faces to identities: which images are of one person, by their embeddings alone.

How alike two strangers look to this teacher is measured on random pairs. From that follow both
limits, without a number to choose:

* *Sure links*: a cosine so high that in all of the set one pair of strangers is expected to have
  it. What hangs together by such links is one person, however different two poses of it are.
* *Merges*: two groups are one person where the mean cosine between their images is higher than
  a quarter of a stranger is expected to reach for each image. The means of larger groups scatter
  less, so less is asked of them. The most alike are merged first, each with its own best, until
  none is left.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from curation.neighbours import blocks, near_each
from curation.progress import Progress

NEIGHBOURS = 32
"""Of each image, the pairs that are looked at"""
SURE_STRANGERS = 1.0
"""Pairs of strangers in the whole set that are expected above the cosine of a sure link"""
MERGE_STRANGERS = 0.25
"""Strangers of each image that are expected above the cosine of a merge"""
LEAST_COUNT = 1_000
"""Of fewer images the limits are those of so many: people that are few are no more alike"""
PERSON_SHARE = 0.62
"""Of the variance of the cosines of strangers: what is left between large groups"""
_RANDOM_PAIRS = 500_000
_TRIMS, _TRIM_AT = 8, 3.5
_BLOCK = 1 << 16
_MOST_ROUNDS = 200


@dataclass(frozen=True)
class Strangers:
    """The cosines of strangers, a normal distribution's centre and spread: by quantiles of random
    pairs, of which nearly all are such."""

    middle: float
    spread: float

    def spread_of(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Of the mean cosine between groups of so many images."""
        own = (1 - PERSON_SHARE) / 2
        return self.spread * np.sqrt(PERSON_SHARE + own / first + own / second)

    def sure(self, count: int) -> float:
        """The cosine of a sure link among ``count`` images."""
        pairs = count * (count - 1) / 2
        return self.middle + self.spread * _deviations(SURE_STRANGERS / pairs)


def measure_strangers(vectors: np.ndarray, seed: int = 0) -> Strangers:
    """Of unit vectors ``[N, D]``."""
    random = np.random.default_rng(seed)
    cosines = []
    for block in blocks(_RANDOM_PAIRS, _BLOCK):
        first, second = random.integers(0, len(vectors), (2, block.stop - block.start))
        apart = first != second
        cosines.append(np.einsum("nd,nd->n", vectors[first[apart]], vectors[second[apart]]))
    left = np.concatenate(cosines)
    for _ in range(_TRIMS):  # of a few people, many pairs are no strangers: those are on top
        low, middle = np.quantile(left, [0.1587, 0.5])
        spread = max(float(middle - low), 1e-3)
        left = left[left < middle + _TRIM_AT * spread]
    return Strangers(float(middle), spread)


def group_faces(
    vectors: np.ndarray, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Groups int64 ``[N]`` of unit vectors float32 ``[N, D]``, and how sure each group is ``[G]``.

    Groups are numbered by the first image of each. How sure: 1 less the strangers that are expected
    for each image above the least cosine that made the group, 0 to 1; 1 for an image alone.
    Progress counts images, while their neighbours are searched.
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
    """The component of each of ``count`` things, by pairs ``[P, 2]``: int64 ``[N]`` from 0 on."""
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
    """Pairs int64 ``[P, 2]``, the smaller index first, that could make two groups one."""
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
    """Groups while they are merged: ``own`` says which one each of the first groups is in now."""

    def __init__(
        self, vectors: np.ndarray, groups: np.ndarray, strangers: Strangers, limit: float
    ) -> None:
        count = int(groups.max()) + 1
        self.own = np.arange(count)
        self.size = np.bincount(groups).astype(np.float64)
        self.least = np.full(count, np.inf)
        """Deviations from strangers of the least sure merge of each group"""
        self._of, self._strangers, self._limit = groups, strangers, limit
        self._sums = np.zeros((count, vectors.shape[1]), np.float32)
        for block in blocks(len(vectors), _BLOCK):
            np.add.at(self._sums, groups[block], vectors[block])

    def merge_all(self, pairs: np.ndarray) -> None:
        """Merge by the links ``pairs`` of images, until no two groups are alike enough."""
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
        """Pairs of different groups, each once, the smaller number first."""
        low, high = links.min(axis=1), links.max(axis=1)
        keys = np.unique((low * len(self.size) + high)[low != high])
        return np.column_stack(np.divmod(keys, len(self.size)))

    def _scores(self, links: np.ndarray) -> np.ndarray:
        """How many deviations the mean cosine of each pair of groups is above strangers'."""
        dots = np.empty(len(links), np.float64)
        for block in blocks(len(links), _BLOCK):
            first, second = links[block].T
            dots[block] = np.einsum("pd,pd->p", self._sums[first], self._sums[second])
        first, second = self.size[links[:, 0]], self.size[links[:, 1]]
        means = dots / (first * second)
        return (means - self._strangers.middle) / self._strangers.spread_of(first, second)

    def _mutual_best(self, links: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Which pairs are each other's best; where several are equally good, one of them."""
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
    """How many standard deviations a normal value exceeds with this probability."""
    return -NormalDist().inv_cdf(min(max(probability, 1e-300), 0.5))


def _tail(deviations: float) -> float:
    """The probability of a normal value above so many standard deviations."""
    return math.erfc(deviations / math.sqrt(2)) / 2
