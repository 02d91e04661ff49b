"""One-to-one verification by the ten-fold protocol of LFW, as insightface computes it.

The distance of a pair is the squared L2 distance of its unit features, 0 ... 4; a pair is accepted
where the distance is *below* a threshold. Each fold is scored with the threshold that is best on
the other nine. Source: Huang et al., LFW, 2007, and ``eval/verification.py`` of insightface.
"""

from dataclasses import dataclass

import numpy as np

from curation.errors import UserError

FOLDS = 10
ACCURACY_THRESHOLDS = np.arange(0, 4, 0.01)
VAL_THRESHOLDS = np.arange(0, 4, 0.001)
VAL_FALSE_ACCEPT_RATE = 1e-3


@dataclass(frozen=True)
class TenFold:
    """Accuracy with its deviation over folds, and VAL: the accept rate of genuine pairs.

    ``threshold`` is the mean of the folds' squared L2 thresholds. ``val`` and ``far`` are means
    over the folds at thresholds set for a FAR of 1e-3 on the others.
    """

    accuracy: float
    std: float
    threshold: float
    val: float
    val_std: float
    far: float


def squared_distances(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Row by row squared L2 distance of features ``[P, D]``, float64 ``[P]``."""
    difference = left.astype(np.float64) - right.astype(np.float64)
    return np.square(difference).sum(axis=1)


def ten_fold(distances: np.ndarray, same: np.ndarray) -> TenFold:
    """Score ``distances`` [P] of pairs that are of one person where ``same`` [P] is true.

    Folds are contiguous and in order; where ten does not divide P, the first ones have one pair
    more (scikit-learn's ``KFold(10, shuffle=False)``). Raises `UserError` where `why_no_folds`
    says why.
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
    """Why these pairs cannot be scored by ten folds, with what to do; None where they can.

    A fold of one kind has no accuracy but the share of that kind that a threshold of the others
    accepts: 0 or 1 for a network that tells nobody apart.
    """
    counts = {"genuine": np.count_nonzero(same), "impostor": np.count_nonzero(~same)}
    for kind, count in counts.items():
        if count < FOLDS:
            return (
                f"{count:,} {kind} pairs are too few for ten folds, each of which needs pairs of "
                "both kinds; give at least 10"
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
    """The numbers of the pairs of each fold."""
    return np.array_split(np.arange(pairs), FOLDS)


def _accuracies(
    distances: np.ndarray, same: np.ndarray, folds: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Each fold's accuracy at the threshold that is best on the others, and that threshold."""
    genuine, impostor = _accepted(distances, same, folds, ACCURACY_THRESHOLDS)
    rejected = np.array([[np.count_nonzero(~same[fold])] for fold in folds]) - impostor
    correct = genuine + rejected
    # argmax takes the first of equals, as the protocol does.
    best = np.argmax(correct.sum(axis=0) - correct, axis=1)
    sizes = np.array([len(fold) for fold in folds])
    return correct[np.arange(FOLDS), best] / sizes, ACCURACY_THRESHOLDS[best]


def _val_at_far(
    distances: np.ndarray, same: np.ndarray, folds: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Each fold's (VAL, FAR) at the threshold that gives FAR 1e-3 on the others.

    The threshold is interpolated between its neighbours on the grid; it is 0, so that nothing is
    accepted, where no threshold reaches that FAR.
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
