"""Other methods of cleaning face data, as described by their authors, for comparison.

All take unit vectors ``[N, D]`` sorted by label, and offsets ``[K + 1]`` of the identities. None of
them judges single images of an identity. scikit-learn, SciPy and cleanlab are in the extra
``bench``.
"""

from collections.abc import Iterator

import numpy as np

CENTRE_COSINE = 0.6
"""insightface, src/data/dataset_clean.py, mode 1: images below it are dropped"""
DBSCAN_EPSILON = 0.6
"""The same file, mode 2: Euclidean distance of unit vectors; 0.6 is a cosine of 0.82"""
SUBCENTRES, SUBCENTRE_DEGREES = 3, 75.0
"""Deng et al., Sub-center ArcFace, ECCV 2020: images further from the dominant sub-centre are
dropped
"""
DUPLICATE_RATIO = 0.13
"""cleanlab's near-duplicate check: closer than this share of the median nearest distance"""
OUTLIER_RATIO = 0.37037
"""cleanlab's outlier check: further than Q3 + (1 / ratio - 1) interquartile ranges"""
OUTLIER_NEIGHBOURS = 10
SCALES = (8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0)


def identities_of(vectors: np.ndarray, offsets: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """The identities with two or more images."""
    for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        if last - first > 1:
            yield slice(first, last), vectors[first:last]


def centre_cosines(vectors: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Cosine of each image to the mean of its identity, including itself; 1 for a single image."""
    cosines = np.ones(len(vectors), np.float32)
    for which, here in identities_of(vectors, offsets):
        cosines[which] = here @ _unit(here.sum(axis=0))
    return cosines


def robust_centre_cosines(vectors: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The same to a centre that weights images by how far their cosine exceeds 0.3."""
    cosines = np.ones(len(vectors), np.float32)
    for which, here in identities_of(vectors, offsets):
        weight = np.ones(len(here), np.float32)
        for _ in range(4):
            cosines[which] = here @ _unit(weight @ here)
            weight = np.maximum(cosines[which] - 0.3, 0.0) + 1e-6
    return cosines


def single_linkage(vectors: np.ndarray, offsets: np.ndarray) -> list[tuple[slice, np.ndarray]]:
    """The tree of Euclidean distances in each identity; cut at any height, it gives the clusters of
    DBSCAN for ``min_samples=2``, which are then the connected groups of two or more.
    """
    from scipy.cluster.hierarchy import linkage

    return [
        (which, linkage(here.astype(np.float64), "single"))
        for which, here in identities_of(vectors, offsets)
    ]


def dbscan_sizes(tree: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each image int ``[n]``, from 0, and the clusters' sizes; size one is noise."""
    from scipy.cluster.hierarchy import fcluster

    cluster = fcluster(tree, epsilon, "distance") - 1
    return cluster, np.bincount(cluster)


def outside_largest(
    images: int, trees: list[tuple[slice, np.ndarray]], epsilon: float
) -> np.ndarray:
    """bool ``[N]``: the images dropped by DBSCAN keep-largest; all of an identity without a
    cluster.
    """
    dropped = np.zeros(images, bool)
    for which, tree in trees:
        cluster, sizes = dbscan_sizes(tree, epsilon)
        dropped[which] = (cluster != sizes.argmax()) | (sizes.max() < 2)
    return dropped


def second_clusters(
    offsets: np.ndarray, trees: list[tuple[slice, np.ndarray]], epsilon: float
) -> np.ndarray:
    """Images int64 ``[K]`` in the second largest DBSCAN cluster; 0 if there is only one."""
    second = np.zeros(len(offsets) - 1, np.int64)
    of = {int(first): identity for identity, first in enumerate(offsets[:-1])}
    for which, tree in trees:
        sizes = np.sort(dbscan_sizes(tree, epsilon)[1])
        if len(sizes) > 1 and sizes[-2] > 1:
            second[of[which.start]] = sizes[-2]
    return second


def subcentre_angles(
    vectors: np.ndarray, offsets: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Degrees ``[N]`` to the dominant sub-centre of the identity, by k-means; 0 for a single image.

    Also cosines ``[K]`` between the two largest sub-centres; 1 if there are not two.
    """
    from sklearn.cluster import KMeans

    angles = np.zeros(len(vectors), np.float32)
    between = np.ones(len(offsets) - 1, np.float32)
    of = {int(first): identity for identity, first in enumerate(offsets[:-1])}
    for which, here in identities_of(vectors, offsets):
        means = KMeans(min(SUBCENTRES, len(here)), n_init=1, random_state=seed).fit(here)
        largest = np.argsort(-np.bincount(means.labels_), kind="stable")
        centres = _unit(means.cluster_centers_)[largest]
        angles[which] = np.degrees(np.arccos(np.clip(here @ centres[0], -1, 1)))
        if len(centres) > 1:
            between[of[which.start]] = centres[0] @ centres[1]
    return angles, between


def out_of_sample_probabilities(
    vectors: np.ndarray, labels: np.ndarray, identities: int
) -> np.ndarray:
    """Softmax over cosines to the identities' centres float32 ``[N, K]``, the input of cleanlab: an
    image is excluded from its own centre, and the scale is the most likely one.
    """
    total = np.zeros((identities, vectors.shape[1]), np.float32)
    np.add.at(total, labels, vectors)
    cosines = vectors @ _unit(total).T
    row = np.arange(len(vectors))
    cosines[row, labels] = np.einsum("nd,nd->n", vectors, _unit(total[labels] - vectors))
    sample = np.random.default_rng(0).choice(len(row), min(2000, len(row)), replace=False)
    scale = max(SCALES, key=lambda s: _log_likelihood(s * cosines[sample], labels[sample]))
    cosines *= scale
    cosines -= cosines.max(axis=1, keepdims=True)
    np.exp(cosines, out=cosines)
    cosines /= cosines.sum(axis=1, keepdims=True)
    return cosines


def label_issues(
    vectors: np.ndarray, labels: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """cleanlab's ``find_label_issues`` bool ``[N]`` and label quality ``[N]``, with its defaults.

    For identities of two or more images; the others have no image to learn from.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    sizes = np.diff(offsets)
    judged = sizes[labels] > 1
    names, there = np.unique(labels[judged], return_inverse=True)
    probabilities = out_of_sample_probabilities(vectors[judged], there, len(names))
    issues, quality = np.zeros(len(labels), bool), np.ones(len(labels))
    issues[judged] = find_label_issues(there, probabilities, n_jobs=1)
    quality[judged] = get_label_quality_scores(there, probabilities)
    return issues, quality


def near_centres(
    vectors: np.ndarray, offsets: np.ndarray, neighbours: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of identities int64 ``[P, 2]``, smaller first, and their centres' cosines ``[P]``."""
    import faiss

    centres = _unit(np.add.reduceat(vectors, offsets[:-1]))
    index = faiss.IndexFlatIP(centres.shape[1])
    index.add(centres)
    cosines, others = index.search(centres, neighbours + 1)
    pairs = np.column_stack([np.repeat(np.arange(len(centres)), neighbours + 1), others.ravel()])
    there = pairs[:, 0] != pairs[:, 1]
    pairs, once = np.unique(np.sort(pairs[there], axis=1), axis=0, return_index=True)
    return pairs, cosines.ravel()[there][once]


def overlapping_classes(
    vectors: np.ndarray, labels: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """cleanlab's measure of classes to merge: pairs ``[P, 2]``, smaller first, and the share of the
    smaller one's images that are confidently counted under the other label, both ways.
    """
    from cleanlab.count import compute_confident_joint

    sizes = np.diff(offsets)
    judged = sizes[labels] > 1
    names, there = np.unique(labels[judged], return_inverse=True)
    probabilities = out_of_sample_probabilities(vectors[judged], there, len(names))
    joint = compute_confident_joint(there, probabilities, calibrate=False)
    first, second = np.nonzero(np.triu(joint + joint.T, 1))
    overlap = (joint + joint.T)[first, second] / np.minimum(*sizes[names][[first, second]])
    return np.column_stack([names[first], names[second]]), overlap


def merging_distances(
    vectors: np.ndarray, offsets: np.ndarray, pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances at which images join a group, in all identities, and at which the two of
    each pair of images ``[P, 2]`` do, by single linkage.
    """
    from scipy.cluster.hierarchy import cophenet
    from scipy.spatial.distance import squareform

    joined, together = [], np.full(len(pairs), np.inf)
    for which, tree in single_linkage(vectors, offsets):
        joined.append(tree[:, 2])
        here = np.flatnonzero((pairs[:, 0] >= which.start) & (pairs[:, 0] < which.stop))
        if len(here):
            heights = squareform(cophenet(tree))
            together[here] = heights[tuple((pairs[here] - which.start).T)]
    return np.concatenate(joined), together


def nearest_distances(vectors: np.ndarray, neighbours: int) -> np.ndarray:
    """Cosine distances ``[N, neighbours]`` of each image to its nearest neighbours."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return 1.0 - index.search(vectors, neighbours + 1)[0][:, 1:]


def outliers(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cleanlab's outlier check on features: bool ``[N]``, and the underlying mean distances."""
    distance = nearest_distances(vectors, OUTLIER_NEIGHBOURS).mean(axis=1)
    lower, upper = np.quantile(distance, [0.25, 0.75])
    return distance > upper + (1 / OUTLIER_RATIO - 1) * (upper - lower), distance


def _log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    highest = logits.max(axis=1)
    normaliser = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return float((logits[np.arange(len(labels)), labels] - normaliser).mean())


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(length, 1e-12)
