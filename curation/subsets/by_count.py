"""Subsets by the number of images per identity, and random subsets.

An unlabelled image counts as an identity of its own.
"""

from pathlib import Path

import numpy as np

from curation.errors import UserError
from curation.image_set import ImageSet
from curation.labels import each_alone
from curation.view_writing import write_subset
from curation.views import View

LONG_TAIL_CUT = "long-tail-cut"
RETINA_S = "retina-s"
CAP = "cap"
RANDOM = "random"


def long_tail_cut(labels: np.ndarray, minimum: int) -> np.ndarray:
    """Keep identities that have at least ``minimum`` images: bool ``[N]`` from labels ``[N]``.

    Identities with few images teach little about intra-class variation. Source: the Meituan paper's
    "cutting long tail identities", which gives no number.
    """
    return _images_of_each(labels) >= minimum


def retina_s(labels: np.ndarray, maximum: int = 50) -> np.ndarray:
    """Keep identities that have at most ``maximum`` images: bool ``[N]`` from labels ``[N]``.

    This cuts the head, not the tail, and gives a small set of many identities for comparing
    networks quickly. Source: the Bitmain paper's Retina-S, which drops identities with more than 50
    images.
    """
    return _images_of_each(labels) <= maximum


def cap(labels: np.ndarray, maximum: int, numbers: np.ndarray, seed: int = 0) -> np.ndarray:
    """Keep at most ``maximum`` random images of each identity: bool ``[N]``.

    ``numbers`` ``[N]`` identify the images; the choice depends only on them and ``seed``. So a
    larger ``maximum`` keeps a superset, and other identities have no influence.
    """
    order = np.lexsort((_lots(numbers, seed), labels))
    ordered = labels[order]
    place = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    keep = np.empty(len(labels), bool)
    keep[order] = place < maximum
    return keep


def random_identities(
    labels: np.ndarray, count: int, numbers: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Keep ``count`` random identities: bool ``[N]`` from labels ``[N]``, which start at 0.

    ``numbers`` ``[identities]`` identify the identities; the choice depends only on them and
    ``seed``, so a larger ``count`` keeps a superset.
    """
    chosen = np.zeros(len(numbers), bool)
    chosen[np.argsort(_lots(numbers, seed), kind="stable")[:count]] = True
    return chosen[labels]


def _images_of_each(labels: np.ndarray) -> np.ndarray:
    """The number of images of each image's identity."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return counts[inverse]


def _lots(numbers: np.ndarray, seed: int) -> np.ndarray:
    """A random uint64 per number: SplitMix64 (Steele et al., OOPSLA 2014) of number and seed.

    It is the same on every machine and with every version of NumPy, whose generators may change.
    """
    return _mixed(np.asarray(numbers, np.uint64) + _mixed(np.array([seed], np.uint64)))


def _mixed(state: np.ndarray) -> np.ndarray:
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def write_long_tail_cut(path: Path, parent: ImageSet, minimum: int) -> View:
    """Write the view of the identities with at least ``minimum`` images."""
    keep = long_tail_cut(each_alone(parent.labels), minimum)
    return write_subset(path, parent, keep, LONG_TAIL_CUT, {"minimum": minimum})


def write_retina_s(path: Path, parent: ImageSet, maximum: int = 50) -> View:
    """Write the view of the identities with at most ``maximum`` images."""
    keep = retina_s(each_alone(parent.labels), maximum)
    return write_subset(path, parent, keep, RETINA_S, {"maximum": maximum})


def write_cap(path: Path, parent: ImageSet, maximum: int, seed: int = 0) -> View:
    """Write the view of at most ``maximum`` images of each identity, chosen by row in the store."""
    if maximum < 1:
        raise UserError(
            f"the maximum number of images per identity is {maximum}; allowed: 1 or more"
        )
    _check_seed(seed)
    keep = cap(each_alone(parent.labels), maximum, parent.rows, seed)
    return write_subset(path, parent, keep, CAP, {"maximum": maximum, "seed": seed})


def write_random_identities(
    path: Path,
    parent: ImageSet,
    identities: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
) -> View:
    """Write the view of a number, or a fraction, of random identities with all their images.

    Exactly one of the two must be given. The choice of an identity depends on the store's label of
    its first image; labels there are identity numbers, and unlabelled images are numbered after
    them.
    """
    _check_seed(seed)
    labels = each_alone(parent.labels)
    _, first_images = np.unique(labels, return_index=True)
    numbers = each_alone(parent.store.labels)[parent.rows[first_images]]
    count = _count(parent, len(numbers), identities, fraction)
    keep = random_identities(labels, count, numbers, seed)
    amount = {"identities": count} if fraction is None else {"fraction": fraction}
    return write_subset(path, parent, keep, RANDOM, amount | {"seed": seed})


def _count(parent: ImageSet, there: int, identities: int | None, fraction: float | None) -> int:
    if (identities is None) == (fraction is None):
        raise UserError("give either a number of identities or a fraction of them")
    if identities is None:
        assert fraction is not None
        if not 0 < fraction <= 1:
            raise UserError(f"the fraction of identities is {fraction:g}; allowed: above 0, to 1")
        return max(1, round(fraction * there))
    if not 1 <= identities <= there:
        also = " (each unlabelled image counts as one)" if parent.unlabelled else ""
        raise UserError(
            f"{identities} identities were requested, and {parent.path} has {there}{also}; "
            f"allowed: 1 to {there}"
        )
    return identities


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 1 << 63:
        raise UserError(f"the seed is {seed}; allowed: 0 to 2^63 - 1")
