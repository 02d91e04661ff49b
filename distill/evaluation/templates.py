"""One feature from several images of a person: the frames of a video, the media of a template.

The functions map unit features [N, D] of one person to a unit feature [D], float32. A sum of unit
features weights all images equally; a sum of raw features weights an image by its norm, which
reflects its quality.
"""

from collections.abc import Callable

import numpy as np

from teachers.embedder import normalise

Pool = Callable[[np.ndarray], np.ndarray]
DROPPED = 0.2
"""The share of frames that `without_farthest` drops."""
_MEDIA = 1 << 14
"""Media whose features are in memory in double precision at a time"""
SAME_PERSON = 0.4
"""The cosine above which `largest_cluster` links two frames."""


def average(features: np.ndarray) -> np.ndarray:
    """The normalised mean of all features."""
    return normalise(features.sum(axis=0))


def without_farthest(features: np.ndarray, dropped: float = DROPPED) -> np.ndarray:
    """The mean without the share of frames with the lowest cosines to the mean of all.

    Source: Bitmain's solution for LFR 2019 (iQIYI), 20 %.
    """
    kept = len(features) - int(dropped * len(features))
    similar = features @ average(features)
    return average(features[np.argsort(-similar, kind="stable")[:kept]])


def largest_cluster(features: np.ndarray, threshold: float = SAME_PERSON) -> np.ndarray:
    """The mean of the largest group of frames linked by cosines above ``threshold``.

    Among groups of equal size, the one with the earliest frame. Source: Meituan's solution for LFR
    2019.
    """
    groups = _linked(features @ features.T > threshold)
    return average(features[groups == np.argmax(np.bincount(groups))])


def template(raw: np.ndarray, media: np.ndarray, by_norm: bool = False) -> np.ndarray:
    """An IJB template of ``raw`` features [N, D] from ``media`` [N]: the sum of the media's means.

    ``by_norm`` keeps the norms of the raw features, which then weight the images.
    Source: insightface's eval_ijbc.py, which follows the protocol of IJB-C.
    """
    features = raw if by_norm else normalise(raw)
    means = [features[media == each].mean(axis=0) for each in np.unique(media)]
    return normalise(np.sum(means, axis=0))


def templates(
    features: np.ndarray, weights: np.ndarray, template: np.ndarray, medium: np.ndarray
) -> np.ndarray:
    """The `template` of each number in ``template`` [N], in ascending order: unit [T, D], float32.

    ``weights`` [N] weight the ``features`` [N, D].
    """
    numbers, place = np.unique(template, return_inverse=True)
    media, medium_of, counts = np.unique(
        np.column_stack([place, medium]), axis=0, return_inverse=True, return_counts=True
    )
    order = np.argsort(medium_of.ravel(), kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.zeros((len(numbers), features.shape[1]))
    for begin in range(0, len(media), _MEDIA):
        part = slice(begin, begin + _MEDIA)
        chosen = order[starts[begin] : starts[part][-1] + counts[part][-1]]
        weighted = features[chosen] * weights[chosen, None].astype(np.float64)
        means = np.add.reduceat(weighted, starts[part] - starts[begin]) / counts[part][:, None]
        np.add.at(sums, media[part, 0], means)
    return normalise(sums)


def _linked(links: np.ndarray) -> np.ndarray:
    """The connected component of each node of ``links`` [N, N], numbered by first node."""
    groups = np.full(len(links), -1)
    for first in range(len(links)):
        if groups[first] >= 0:
            continue
        group, reached = groups.max() + 1, np.zeros(len(links), bool)
        front = np.array([first])
        while len(front):
            reached[front] = True
            front = np.flatnonzero(links[front].any(axis=0) & ~reached)
        groups[reached] = group
    return groups
