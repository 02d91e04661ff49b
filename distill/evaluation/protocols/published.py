"""The figures of IJB that papers report, by the rules of insightface's script.

Our own figures (`rates`, `identification`) never accept more impostors than a rate allows, and
count a mate as found if it is above the threshold, as NIST does. The script uses the nearest point
of the ROC. For identification, its threshold allows one impostor fewer, and the mate must be at
rank 1. Source: insightface, ``recognition/_evaluation_/ijb/ijb_evals.py``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.evaluation.identification import Searches

_FPR = range(6, 0, -1)
_FPIR = range(4, 0, -1)
_RANKS = (1, 5, 10)


def tar_at_nearest(cosines: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """TAR at the FPR of the ROC nearest to each rate; the largest TAR at that FPR."""
    fpr, tpr = _roc(cosines, same)
    found = {}
    for exponent in _FPR:
        distance = np.abs(fpr - 10.0**-exponent)
        # The script searches from the end of the ROC, so it prefers the higher of two nearest FPRs.
        nearest = fpr[np.flatnonzero(distance == distance.min())].max()
        found[f"1e-{exponent}"] = float(tpr[fpr == nearest].max())
    return found


def _roc(cosines: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FPR and TPR if scores at or above each score are accepted, like ``roc_curve``.

    scikit-learn's function drops the middle one of three evenly spaced points on a line, which can
    change the nearest point.
    """
    order = np.argsort(-cosines, kind="stable")
    last = np.append(np.flatnonzero(np.diff(cosines[order])), len(order) - 1)
    true = np.cumsum(same[order], dtype=np.int64)[last]
    false = 1 + last - true
    if len(last) > 2:
        bends = (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0)
        kept = np.concatenate([[True], bends, [True]])
        true, false = true[kept], false[kept]
    return np.append(0, false) / false[-1], np.append(0, true) / true[-1]


def identification(searches: Mapping[str, Searches], probes: int) -> dict[str, Any]:
    """Rank hits of all galleries divided by ``probes``, and the mean TPIR at each FPIR.

    TPIR is empty if a gallery has a mate for every probe.
    """
    hits = {
        str(rank): sum(
            int((each.mates[each.mated] > each.nearest[each.mated, rank - 1]).sum())
            for each in searches.values()
        )
        / probes
        for rank in _RANKS
    }
    if any(each.mated.all() for each in searches.values()):
        return {"ranks": hits, "tpir": {}}
    tpir = {
        f"1e-{exponent}": float(np.mean([_tpir(each, exponent) for each in searches.values()]))
        for exponent in _FPIR
    }
    return {"ranks": hits, "tpir": tpir}


def _tpir(searches: Searches, exponent: int) -> float:
    mated = searches.mated
    strangers = np.sort(searches.nearest[~mated, 0])[::-1]
    threshold = strangers[max(int(len(strangers) * 10.0**-exponent) - 1, 0)]
    mates = searches.mates[mated]
    return float(np.mean((mates > searches.nearest[mated, 0]) & (mates > threshold)))
