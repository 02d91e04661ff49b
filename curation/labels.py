"""Labels of images: identities 0, 1, ... in ascending order, then -1 for unlabelled images.

The identity of an unlabelled image is unknown. Where only the size of identities matters, it counts
as an identity with one image (``each_alone``).
"""

import numpy as np

UNLABELLED = -1
UNLABELLED_FOLDER = "unlabelled"
"""The folder of unlabelled images, in exports and sources"""


def are_labels(labels: np.ndarray, identities: int, unlabelled: int) -> bool:
    """Whether ``labels`` int32 ``[N]`` ascend from 0 to ``identities`` - 1 without gaps, followed
    by ``unlabelled`` unlabelled images.
    """
    known, others = np.split(labels, [len(labels) - unlabelled])
    if not (others == UNLABELLED).all():
        return False
    if not len(known):
        return identities == 0
    steps = np.diff(known).view("u4")
    return bool(known[0] == 0 and known[-1] == identities - 1 and (steps <= 1).all())


def count_identities(labels: np.ndarray) -> int:
    """The number of identities of ``labels`` that ascend from 0 without gaps; 0 if none is."""
    return int(labels.max(initial=UNLABELLED)) + 1


def sort_keys(labels: np.ndarray) -> np.ndarray:
    """uint64 ``[N]`` sort keys: identities ascending, then unlabelled images."""
    return labels.astype(np.int64).view(np.uint64)


def renumbered(labels: np.ndarray) -> np.ndarray:
    """The identities among ``labels`` int ``[N]``, renumbered as 0, 1, ... in the same order."""
    _, new = np.unique(labels, return_inverse=True)
    return new - int((labels < 0).any())


def each_alone(labels: np.ndarray) -> np.ndarray:
    """``labels`` with a unique number for each unlabelled image, above all identities."""
    unlabelled = np.flatnonzero(labels < 0)
    alone = labels.copy()
    alone[unlabelled] = count_identities(labels) + np.arange(len(unlabelled))
    return alone
