"""The prototypes of all identities of a set, and how similar images are to them."""

from collections.abc import Iterator

import numpy as np

from curation.noise.embedded import EmbeddedImages
from curation.noise.prototypes import (
    PrototypeSimilarity,
    prototype_of,
    similarity_of_outsiders,
    similarity_within,
)


def prototypes_of(images: EmbeddedImages, trust: np.ndarray) -> np.ndarray:
    """Every identity's prototype, unit float32 ``[K, D]``."""
    prototypes = np.zeros((images.identities, images.dimension), np.float32)
    for identity, which, vectors in identities_of(images):
        prototypes[identity] = prototype_of(vectors, trust[which])
    return prototypes


def identities_of(images: EmbeddedImages) -> Iterator[tuple[int, slice, np.ndarray]]:
    """Yield each identity with its images and their vectors, reading in large blocks."""
    first = 0
    while first < images.identities:
        end = np.searchsorted(images.offsets, images.offsets[first] + 8192, "right") - 1
        last = int(max(end, first + 1))
        start = int(images.offsets[first])
        block = images.vectors(slice(start, int(images.offsets[last])))
        for identity in range(first, last):
            which = images.images_of(identity)
            yield identity, which, block[which.start - start : which.stop - start]
        first = last


def similarity_to_own(images: EmbeddedImages, trust: np.ndarray) -> PrototypeSimilarity:
    """The similarity ``[N]`` of each image to the others of its identity; 0 if it has no others."""
    found = PrototypeSimilarity(*(np.zeros(len(images), np.float32) for _ in range(3)))
    for _, which, vectors in identities_of(images):
        if len(vectors) > 1:
            here = similarity_within(vectors, trust[which])
            found.prototype[which] = here.prototype
            found.nearest[which] = here.nearest
            found.weight[which] = here.weight
    return found


def similarity_to_identities(
    images: EmbeddedImages, trust: np.ndarray, vectors: np.ndarray, identities: np.ndarray
) -> PrototypeSimilarity:
    """The similarity of ``vectors [m, D]`` to ``identities [m]``, which do not contain them."""
    found = PrototypeSimilarity(*(np.zeros(len(vectors), np.float32) for _ in range(3)))
    order = np.argsort(identities, kind="stable")
    distinct, first = np.unique(identities[order], return_index=True)
    for identity, here in zip(distinct, np.split(order, first[1:]), strict=True):
        which = images.images_of(int(identity))
        one = similarity_of_outsiders(vectors[here], images.vectors(which), trust[which])
        found.prototype[here] = one.prototype
        found.nearest[here] = one.nearest
        found.weight[here] = one.weight
    return found
