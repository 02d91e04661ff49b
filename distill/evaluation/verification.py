"""One-to-one verification with the ten-fold protocol of LFW, as computed by insightface.

The distance of a pair is the squared L2 distance of its unit features, 0 to 4; a pair is accepted
if the distance is *below* the threshold. Each fold is scored at the threshold that is best on the
other nine. Source: Huang et al., LFW, 2007, and ``eval/verification.py`` of insightface.
"""

from dataclasses import dataclass

import numpy as np

from curation.errors import UserError
from curation.wording import counted

FOLDS = 10
ACCURACY_THRESHOLDS = np.arange(0, 4, 0.01)
VAL_THRESHOLDS = np.arange(0, 4, 0.001)
VAL_FALSE_ACCEPT_RATE = 1e-3


@dataclass(frozen=True)
class TenFold:
    """Accuracy with its standard deviation over folds, and VAL, the accept rate of genuine pairs.

    ``threshold`` is the mean squared L2 threshold of the folds. ``val`` and ``far`` are means over
    the folds, each at the threshold with a FAR of 1e-3 on the other folds.
    """

    accuracy: float
    std: float
    threshold: float
    val: float
    val_std: float
    far: float


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The squared L2 distances of corresponding rows of features ``[P, D]``, float64 ``[P]``."""
    difference = left.astype(np.float64) - right.astype(np.float64)
    return np.square(difference).sum(axis=1)


def ten_fold(distances: np.ndarray, same: np.ndarray) -> TenFold:
    """Score the ``distances`` [P] of pairs, which are genuine where ``same`` [P] is true.

    Folds are contiguous and in order. If ten does not divide P, the first folds have one more pair,
    as with scikit-learn's ``KFold(10, shuffle=False)``. Raises `UserError` with the reason of
    `why_no_folds`.
    """
    if reason := why_no_folds(same):
        raise UserError(reason)
    folds = _folds(len(same))
    accuracies, thresholds = _accuracies(distances, same, folds)
    val, far = _val_at_far(distances, same, folds)
    return TenFold(
        accuracy=float(np.mean(accuracies)),
        std=float(np.std(accuracies)),
        threshold=float(np.mean(thresholds)),
        val=float(np.mean(val)),
        val_std=float(np.std(val)),
        far=float(np.mean(far)),
    )


def why_no_folds(same: np.ndarray) -> str | None:
    """Why these pairs cannot be scored with ten folds and how to fix that; None if they can.

    Every fold needs pairs of both kinds. The accuracy of a fold with only one kind is meaningless:
    0 or 1 for a network that cannot distinguish anybody.
    """
    counts = {"genuine": int(np.count_nonzero(same)), "impostor": int(np.count_nonzero(~same))}
    for kind, count in counts.items():
        if count < FOLDS:
            return (
                f"{counted(count, f'{kind} pair')} {'is' if count == 1 else 'are'} too few for ten "
                "folds, each of which needs pairs of both kinds; give at least 10"
            )
    for fold in _folds(len(same)):
        if same[fold].all() or not same[fold].any():
            kind = "genuine" if same[fold[0]] else "impostor"
            return (
                f"pairs {fold[0]:,} to {fold[-1]:,}, one of the ten folds, are all {kind}; order "
                "the pairs so that every fold holds both kinds"
            )
    return None


def _folds(pairs: int) -> list[np.ndarray]:
    """The indices of the pairs of each fold."""
    return np.array_split(np.arange(pairs), FOLDS)


def _accuracies(
    distances: np.ndarray, same: np.ndarray, folds: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Each fold's accuracy at the threshold that is best on the others, and that threshold."""
    genuine, impostor = _accepted(distances, same, folds, ACCURACY_THRESHOLDS)
    rejected = np.array([[np.count_nonzero(~same[fold])] for fold in folds]) - impostor
    correct = genuine + rejected
    # argmax returns the first of equal values, like the protocol.
    best = np.argmax(correct.sum(axis=0) - correct, axis=1)
    sizes = np.array([len(fold) for fold in folds])
    return correct[np.arange(FOLDS), best] / sizes, ACCURACY_THRESHOLDS[best]


def _val_at_far(
    distances: np.ndarray, same: np.ndarray, folds: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Each fold's (VAL, FAR) at the threshold that gives FAR 1e-3 on the others.

    The threshold is interpolated on the grid. If no threshold reaches that FAR, it is 0, which
    accepts no pair.
    """
    _, impostor = _accepted(distances, same, folds, VAL_THRESHOLDS)
    impostors = np.array([[np.count_nonzero(~same[fold])] for fold in folds])
    rates = (impostor.sum(axis=0) - impostor) / (impostors.sum() - impostors)
    scores = [
        _fold_val(distances[fold], same[fold], rate)
        for fold, rate in zip(folds, rates, strict=True)
    ]
    val, far = np.array(scores).T
    return val, far


def _fold_val(distances: np.ndarray, same: np.ndarray, rates: np.ndarray) -> tuple[float, float]:
    """(VAL, FAR) of one fold; ``rates`` is the FAR of the others at each threshold."""
    threshold = 0.0
    if np.max(rates) >= VAL_FALSE_ACCEPT_RATE:
        threshold = float(np.interp(VAL_FALSE_ACCEPT_RATE, rates, VAL_THRESHOLDS))
    accepted = distances < threshold
    return float(np.mean(accepted[same])), float(np.mean(accepted[~same]))


def _accepted(
    distances: np.ndarray, same: np.ndarray, folds: list[np.ndarray], thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Accepted (genuine, impostor) pairs, each integer ``[folds, thresholds]``."""

    def below(chosen: np.ndarray) -> np.ndarray:
        return np.searchsorted(np.sort(chosen), thresholds, side="left")

    genuine = [below(distances[fold][same[fold]]) for fold in folds]
    impostor = [below(distances[fold][~same[fold]]) for fold in folds]
    return np.array(genuine), np.array(impostor)
