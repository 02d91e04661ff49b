"""The figures of IJB as papers state them, by the rules of insightface's script.

Ours (`rates`, `identification`) never accept more impostors than a rate allows, and count a mate as
found where it is above the threshold, as NIST does. The script takes the nearest point of the ROC,
and of identification the score of one impostor fewer, with the mate at rank 1.
Source: insightface, ``recognition/_evaluation_/ijb/ijb_evals.py``.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from distill.evaluation.identification import Searches

_FPR = range(6, 0, -1)
_FPIR = range(4, 0, -1)
_RANKS = (1, 5, 10)


def tar_at_nearest(cosines: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """TAR at the FPR of the ROC that is nearest to each rate; of equal ones the largest TAR."""
    fpr, tpr = _roc(cosines, same)
    found = {}
    for exponent in _FPR:
        distance = np.abs(fpr - 10.0**-exponent)
        # The script looks from the end of the ROC: of two that are as near, the higher FPR.
        nearest = fpr[np.flatnonzero(distance == distance.min())].max()
        found[f"1e-{exponent}"] = float(tpr[fpr == nearest].max())
    return found


def _roc(cosines: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """FPR and TPR where a pair is accepted at or above each score, as scikit-learn's ``roc_curve``.

    That leaves out points in the middle of three that are evenly spaced on a line, so that the
    nearest one may be another.
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
    """Rank hits of all galleries by ``probes``, and the mean TPIR at each FPIR that has a probe."""
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
