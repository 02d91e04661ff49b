"""Subsets by the number of images that identities have: which images they keep, and their views."""

from pathlib import Path

import numpy as np

from curation.store import ImageSet
from curation.views import View, write_subset

LONG_TAIL_CUT = "long-tail-cut"
RETINA_S = "retina-s"


def long_tail_cut(labels: np.ndarray, minimum: int) -> np.ndarray:
    """Keep identities that have at least ``minimum`` images: bool ``[N]`` of labels ``[N]``.

    Identities with few images teach little about what makes two pictures one person. Source: the
    Meituan paper's "cutting long tail identities", which gives no number.
    """
    return _images_of_each(labels) >= minimum


def retina_s(labels: np.ndarray, maximum: int = 50) -> np.ndarray:
    """Keep identities that have at most ``maximum`` images: bool ``[N]`` of labels ``[N]``.

    It cuts the head, not the tail: a small set of many identities, to compare networks on quickly.
    Source: the Bitmain paper's Retina-S, which drops identities with more than 50 images.
    """
    return _images_of_each(labels) <= maximum


def _images_of_each(labels: np.ndarray) -> np.ndarray:
    """How many images the identity of each image has."""
    _, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return counts[inverse]


def write_long_tail_cut(path: Path, parent: ImageSet, minimum: int) -> View:
    """Write the view of ``parent`` that ``long_tail_cut`` keeps; errors as of ``write_view``."""
    keep = long_tail_cut(parent.labels, minimum)
    return write_subset(path, parent, keep, LONG_TAIL_CUT, {"minimum": minimum})


def write_retina_s(path: Path, parent: ImageSet, maximum: int = 50) -> View:
    """Write the view of ``parent`` that ``retina_s`` keeps; errors as of ``write_view``."""
    keep = retina_s(parent.labels, maximum)
    return write_subset(path, parent, keep, RETINA_S, {"maximum": maximum})
