"""Identities that evaluation sets hold too, and that must not be trained on.

Each evaluation image is compared with all identities' centres. What the same person looks like is
known from images and the centre of the others of their identity; what a lookalike is like, from the
evaluation images themselves, most of whom are not in the data set; see ``calibration``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curation.noise.calibration import fit_cosine_ratio, probabilities, size_class
from curation.noise.embedded import EmbeddedImages
from curation.noise.membership import SAMPLE, Membership, trusted_images
from curation.progress import Progress


@dataclass(frozen=True)
class EvaluationImages:
    """The images of an evaluation set, embedded by the same teacher."""

    name: str
    vectors: np.ndarray
    """float32 ``[P, D]``, unit"""
    digest: str = ""
    """What the findings know the set again by"""


@dataclass(frozen=True)
class Overlap:
    """Of K identities."""

    probability: np.ndarray
    """float32 ``[K]``: of being in an evaluation set"""
    set: np.ndarray
    """int64 ``[K]``: in which, by its place in the list; -1 where none came near"""
    image: np.ndarray
    """int64 ``[K]``: as which image of it"""
    similarity: np.ndarray
    """float32 ``[K]``: cosine between that image and the identity's centre"""


def find_overlap(
    images: EmbeddedImages,
    membership: Membership,
    evaluation: Sequence[EvaluationImages],
    seed: int = 0,
    progress: Progress | None = None,
) -> Overlap:
    """Judge every identity by the evaluation image nearest to it; progress counts images."""
    found = Overlap(
        np.zeros(images.identities, np.float32),
        np.full(images.identities, -1, np.int64),
        np.full(images.identities, -1, np.int64),
        np.full(images.identities, -1.0, np.float32),
    )
    counts = [len(one.vectors) for one in evaluation]
    same, size = _own_centres(images, membership, np.random.default_rng(seed))
    if sum(counts) == 0 or len(same) == 0:  # without two images of anybody there is no measure
        return found
    vectors = np.concatenate([one.vectors for one in evaluation])
    similarity, identity = membership.search.search(vectors, 1, progress)
    similarity, identity = similarity[:, 0], identity[:, 0]
    weights = np.add.reduceat(membership.trust, images.offsets[:-1])
    ratio = fit_cosine_ratio(similarity, same, size_class(size))
    probability = probabilities(ratio(similarity, size_class(weights[identity])))
    order = np.argsort(probability, kind="stable")
    which = np.repeat(np.arange(len(counts)), counts)
    within = np.concatenate([np.arange(count) for count in counts])
    # Ascending order: what is assigned last to an identity is its highest.
    found.probability[identity[order]] = probability[order]
    found.set[identity[order]], found.image[identity[order]] = which[order], within[order]
    found.similarity[identity[order]] = similarity[order]
    return found


def _own_centres(
    images: EmbeddedImages, membership: Membership, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of a sample of trusted images to the centres of the others of their identity, and how
    many images those are: both ``[M]``."""
    trusted = trusted_images(images, membership)
    sample = np.sort(random.choice(trusted, min(SAMPLE, len(trusted)), replace=False))
    return membership.support.centre[sample], membership.support.images[sample]
