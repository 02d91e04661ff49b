"""Where misplaced images belong: to the identity they resemble most, or to nobody here.

The best of many identities always looks good. So the measure is not a stranger's identity but the
best of all others: what trusted images look like in their own identity, against what they look
like in the other identity that resembles them most.
"""

import numpy as np

from curation.neighbours import blocks
from curation.noise.calibration import fit_ratio, probabilities
from curation.noise.embedded import EmbeddedImages
from curation.noise.membership import (
    BLOCK,
    OTHERS,
    SAMPLE,
    Membership,
    best_except,
    support_by,
    support_features,
    trusted_images,
)


def probability_elsewhere(
    images: EmbeddedImages, membership: Membership, which: np.ndarray, seed: int = 0
) -> np.ndarray:
    """How probably each of ``which [n]`` belongs to the other identity it resembles: float32.

    0 where there is no other identity.
    """
    belongs = np.zeros(len(which), np.float32)
    there = np.flatnonzero(membership.other[which] >= 0)
    random = np.random.default_rng(seed)
    trusted = trusted_images(images, membership)
    if len(there) == 0 or len(trusted) < 2:
        return belongs
    sample = np.sort(random.choice(trusted, min(SAMPLE, len(trusted)), replace=False))
    own = images.labels[sample].astype(np.int64)
    at_home = _seen_in(images, membership, sample, own)
    ratio = fit_ratio(_lookalikes(images, membership, sample, own), at_home)
    asked = which[there]
    features = _seen_in(images, membership, asked, membership.other[asked])
    belongs[there] = probabilities(ratio(features))
    return belongs


def _seen_in(
    images: EmbeddedImages, membership: Membership, which: np.ndarray, identities: np.ndarray
) -> np.ndarray:
    """Features of images ``[n]`` in identities ``[n]``, against the best of the rest.

    An image that is in the identity does not vouch for itself.
    """
    features = []
    for block in blocks(len(which), BLOCK):
        here, asked = which[block], identities[block]
        vectors = images.vectors(here)
        near, found = membership.search.search(vectors, OTHERS)
        rival = best_except(near, found, asked)[0]
        inside = (images.labels[here] == asked).all()
        support = (
            membership.support if inside else support_by(images, membership.trust, vectors, asked)
        )
        rows = here if inside else np.arange(len(here))
        features.append(support_features(support, rows, rival))
    return np.concatenate(features)


def _lookalikes(
    images: EmbeddedImages, membership: Membership, sample: np.ndarray, own: np.ndarray
) -> np.ndarray:
    """Features of images in the identity that resembles them most without being theirs.

    Their own identity is not among its rivals, as it would not be for one who has none here.
    """
    features = []
    for block in blocks(len(sample), BLOCK):
        vectors = images.vectors(sample[block])
        near, found = membership.search.search(vectors, OTHERS)
        first = best_except(near, found, own[block])[1]
        there = np.flatnonzero(first >= 0)
        rival = best_except(near, found, own[block], first)[0]
        support = support_by(images, membership.trust, vectors[there], first[there])
        features.append(support_features(support, np.arange(len(there)), rival[there]))
    return np.concatenate(features)
