"""Subsets without images that are redundant within their identity, according to a teacher."""

from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet, Parameter
from curation.neighbours import normalised
from curation.noise.embedded import EmbeddedImages
from curation.view_writing import write_subset
from curation.views import View

PRUNE = "prune"
_TOGETHER = 1 << 16
"""Images whose embeddings are in memory at a time"""
_HALVINGS = 40


def similarities_to_centres(embedded: EmbeddedImages) -> np.ndarray:
    """Cosines float64 ``[N]`` of the images to their identity's centre, its mean embedding."""
    found = np.empty(len(embedded))
    first = 0
    while first < embedded.identities:
        reached = embedded.offsets[first] + _TOGETHER
        last = max(int(np.searchsorted(embedded.offsets, reached, "right")) - 1, first + 1)
        images = slice(int(embedded.offsets[first]), int(embedded.offsets[last]))
        vectors = embedded.vectors(images)
        starts = embedded.offsets[first:last] - images.start
        centres = normalised(np.add.reduceat(vectors, starts, axis=0))
        of_images = np.repeat(centres, embedded.sizes[first:last], axis=0)
        found[images] = (vectors * of_images).sum(axis=1)
        first = last
    return found


def prune(labels: np.ndarray, similarities: np.ndarray, share: float, least: int) -> np.ndarray:
    """The images to keep when dropping about ``share`` of all: bool ``[N]``.

    ``labels`` ``[N]`` ascend from 0 without gaps; ``similarities`` ``[N]`` are cosines. The images
    of an identity are visited by ascending similarity. An image is dropped if it is within a
    threshold of the last one kept; ``least`` evenly spread images are always kept. The threshold is
    the largest that drops no more than ``share``.

    Source: DiffProb (Ozgur et al., 2025), with the cosine to the teacher's class centre in place of
    the predicted probability, and one derived threshold for all identities in place of a given one.
    Raises ``UserError`` if that many cannot be dropped.
    """
    order = np.lexsort((similarities, labels))
    sorted_labels, sorted_similarities = labels[order], similarities[order]
    must = _evenly_spread(sorted_labels, least)
    most = 1 - _kept(sorted_labels, sorted_similarities, 4.0, must).mean()
    if most < share:
        raise UserError(
            f"at most {most:.1%} of the images can be left out if identities keep {least}; give a "
            f"smaller share, or a smaller minimum"
        )
    low, high = 0.0, 4.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        left_out = 1 - _kept(sorted_labels, sorted_similarities, middle, must).mean()
        low, high = (middle, high) if left_out <= share else (low, middle)
    keep = np.empty(len(labels), bool)
    keep[order] = _kept(sorted_labels, sorted_similarities, low, must)
    return keep


def _kept(
    labels: np.ndarray, similarities: np.ndarray, threshold: float, must: np.ndarray
) -> np.ndarray:
    """The kept images, bool ``[N]``, sorted by label and similarity: ``must``, and
    those far apart.
    """
    keep = must.copy()
    if threshold == 0:
        return np.ones_like(keep)
    # Identities are further apart than any threshold, so one search finds the next image of all.
    keys = labels * 8.0 + similarities
    kept = np.flatnonzero(np.diff(labels, prepend=-1))
    while len(kept):
        keep[kept] = True
        following = np.searchsorted(keys, keys[kept] + threshold, "right")
        within = following < len(keys)
        within[within] = labels[following[within]] == labels[kept[within]]
        kept = following[within]
    return keep


def _evenly_spread(labels: np.ndarray, least: int) -> np.ndarray:
    """bool ``[N]``: ``least`` images of each of the ascending ``labels``, or all if fewer."""
    sizes = np.bincount(labels)
    place = np.arange(len(labels)) - np.searchsorted(labels, labels)
    size = sizes[labels]
    # The first image in each of ``least`` equal steps.
    return (size <= least) | (place * least // size != (place - 1) * least // size)


def check_pruning(share: float, least: int) -> None:
    """``UserError`` for invalid settings, to be called before images are embedded."""
    if not 0 < share < 1:
        raise UserError(f"the share to leave out is {share:g}; allowed: above 0, below 1")
    if least < 1:
        raise UserError(f"identities keep at least {least} images; allowed: 1 or more")


def write_prune(
    path: Path,
    parent: ImageSet,
    embedded: EmbeddedImages,
    share: float,
    least: int = 10,
    teacher: str = "",
) -> View:
    """Write the view of ``parent`` without the most redundant ``share`` of its images; see
    ``prune``.

    ``embedded`` are its images, with unlabelled ones as identities of their own. ``teacher`` names
    the teacher in the history.
    """
    check_pruning(share, least)
    keep = prune(embedded.labels.astype(np.int64), similarities_to_centres(embedded), share, least)
    parameters: dict[str, Parameter] = {"share": share, "least": least, "embeddings": teacher}
    return write_subset(path, parent, keep, PRUNE, parameters)
