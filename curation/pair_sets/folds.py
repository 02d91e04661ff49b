"""The order of a verification set: ten consecutive folds, each with both kinds of pairs."""

from collections.abc import Sequence

import numpy as np

FOLDS = 10


def in_folds(same: Sequence[bool] | np.ndarray) -> np.ndarray:
    """An order of the pairs, int64 ``[P]``, in which each tenth has its share of both kinds.

    Evaluation uses consecutive tenths without shuffling. If they are balanced already, the order is
    kept. Otherwise the first tenth gets the first tenth of the genuine pairs and then that of the
    impostor pairs, and so on.
    """
    values = np.asarray(same, bool)
    order = np.arange(len(values))
    if _is_balanced(values):
        return order
    kinds = [np.array_split(np.flatnonzero(values == kind), FOLDS) for kind in (True, False)]
    return np.concatenate([part for fold in zip(*kinds, strict=True) for part in fold])


def _is_balanced(same: np.ndarray) -> bool:
    """Whether no fold deviates from the whole by more than half of the rarer kind's share."""
    share = same.mean()
    least = min(share, 1 - share) / 2
    return all(
        abs(fold.mean() - share) <= least for fold in np.array_split(same, FOLDS) if len(fold)
    )
