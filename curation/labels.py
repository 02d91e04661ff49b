"""Labels of images: identities 0, 1, ... in ascending order, then -1 for those that have none.

An image without a label is nobody in particular. Where only the size of identities counts, it is
an identity of its own, of one image (``each_alone``).
"""

import numpy as np

UNLABELLED = -1


def are_labels(labels: np.ndarray, identities: int, unlabelled: int) -> bool:
    """Whether ``labels`` int32 ``[N]`` ascend from 0 to ``identities`` - 1 without gaps, with so
    many unlabelled images behind them.
    """
    known, others = np.split(labels, [len(labels) - unlabelled])
    if not (others == UNLABELLED).all():
        return False
    if not len(known):
        return identities == 0
    steps = np.diff(known).view("u4")
    return bool(known[0] == 0 and known[-1] == identities - 1 and (steps <= 1).all())


def count_identities(labels: np.ndarray) -> int:
    """The number of identities of ``labels`` that ascend from 0 without gaps; 0 where none is."""
    return int(labels.max(initial=UNLABELLED)) + 1


def sort_keys(labels: np.ndarray) -> np.ndarray:
    """uint64 ``[N]``: in their order identities ascend, and unlabelled images come last."""
    return labels.astype(np.int64).view(np.uint64)


def renumbered(labels: np.ndarray) -> np.ndarray:
    """The identities among ``labels`` int ``[N]``, any from 0 on, as 0, 1, ... in their order."""
    _, new = np.unique(labels, return_inverse=True)
    return new - int((labels < 0).any())


def each_alone(labels: np.ndarray) -> np.ndarray:
    """``labels`` where each unlabelled image has a number of its own, above all identities."""
    unlabelled = np.flatnonzero(labels < 0)
    alone = labels.copy()
    alone[unlabelled] = count_identities(labels) + np.arange(len(unlabelled))
    return alone
