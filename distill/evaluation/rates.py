"""TAR at FAR: how many genuine pairs pass where one impostor pair in 10^n does.

A pair is accepted where its cosine is *above* a threshold. The threshold of a false-accept rate is
the lowest one that accepts no more than that share of the impostor pairs (never the nearest point
of a grid): with ``allowed = floor(FAR * impostors)``, the cosine of the impostor pair that comes
next. Below ten impostor pairs allowed a rate is not measured but guessed, so none is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXPONENTS = range(2, 9)
"""FARs are powers of ten, 1e-2 ... 1e-8: exponents keep the arithmetic exact."""
LEAST_ALLOWED = 10


@dataclass(frozen=True)
class Rate:
    """One FAR on one set of pairs: the impostors it allows, or why it is not measured."""

    exponent: int
    allowed: int
    reason: str | None = None

    @property
    def name(self) -> str:
        return f"1e-{self.exponent}"


def plan_rates(
    genuine: int,
    impostors: int,
    kept: int | None = None,
    exponents: Sequence[int] = EXPONENTS,
) -> list[Rate]:
    """Every FAR with what it needs of the numbers of ``genuine`` and ``impostors`` pairs.

    ``kept`` is how many of the highest impostor scores will be known; None for all.
    """
    return [_plan(exponent, genuine, impostors, kept) for exponent in exponents]


def _plan(exponent: int, genuine: int, impostors: int, kept: int | None) -> Rate:
    allowed = impostors // 10**exponent
    reason = None
    if genuine == 0:
        reason = "insufficient pairs: no genuine pair"
    elif allowed < LEAST_ALLOWED:
        needed = LEAST_ALLOWED * 10**exponent
        reason = f"insufficient pairs: {impostors:,} impostor pairs, {needed:,} needed"
    elif kept is not None and allowed >= kept:
        reason = f"too many pairs: {allowed + 1:,} impostor scores to keep, the limit is {kept:,}"
    return Rate(exponent, allowed, reason)


def thresholds_of(rates: list[Rate], highest_impostors: np.ndarray) -> list[float]:
    """The cosine threshold of each measured rate.

    ``highest_impostors`` are the highest impostor cosines in descending order, at least one more
    than the largest number allowed.
    """
    return [float(highest_impostors[rate.allowed]) for rate in rates if rate.reason is None]


def rate_report(rates: list[Rate], thresholds: list[float], tars: list[float]) -> dict:
    """JSON by FAR: ``{"tar", "cosine_threshold"}``, or null and the reason."""
    measured = iter(zip(thresholds, tars, strict=True))
    report: dict = {}
    for rate in rates:
        if rate.reason is None:
            threshold, tar = next(measured)
            report[rate.name] = {"tar": tar, "cosine_threshold": threshold}
        else:
            report[rate.name] = {"tar": None, "cosine_threshold": None, "reason": rate.reason}
    return report


def no_rates(reason: str) -> dict:
    """`rate_report` of a set on which nothing can be measured."""
    rates = [Rate(exponent, 0, reason) for exponent in EXPONENTS]
    return rate_report(rates, [], [])


def pair_rates(cosines: np.ndarray, same: np.ndarray) -> dict:
    """`rate_report` of explicit pairs: ``cosines`` [P], genuine where ``same`` [P]."""
    genuine, impostors = np.sort(cosines[same]), np.sort(cosines[~same])[::-1]
    rates = plan_rates(len(genuine), len(impostors))
    thresholds = thresholds_of(rates, impostors)
    return rate_report(rates, thresholds, [share_above(genuine, t) for t in thresholds])


def share_above(ascending: np.ndarray, threshold: float) -> float:
    """The share of ``ascending`` scores that lie strictly above ``threshold``."""
    above = len(ascending) - np.searchsorted(ascending, threshold, side="right")
    return float(above / len(ascending))
