"""Area under the ROC and equal error rate of explicit pairs."""

import numpy as np


def area_under_roc(genuine: np.ndarray, impostors: np.ndarray) -> float:
    """Probability that a genuine pair outscores an impostor pair; ties count half.

    Source: Mann and Whitney, 1947; Hanley and McNeil, 1982.
    """
    ascending = np.sort(impostors)
    below = np.searchsorted(ascending, genuine, side="left")
    not_above = np.searchsorted(ascending, genuine, side="right")
    return float(np.mean(below + not_above) / (2 * len(impostors)))


def equal_error_rate(genuine: np.ndarray, impostors: np.ndarray) -> float:
    """The minimum over all thresholds of the larger of FAR and FRR.

    FAR is the share of impostor pairs above the threshold, FRR of genuine pairs not above it.
    """
    thresholds = np.concatenate([[-np.inf], np.unique(np.concatenate([genuine, impostors]))])
    rejected = np.searchsorted(np.sort(genuine), thresholds, side="right") / len(genuine)
    accepted = 1 - np.searchsorted(np.sort(impostors), thresholds, side="right") / len(impostors)
    return float(np.min(np.maximum(rejected, accepted)))
