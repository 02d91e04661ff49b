"""TAR at FAR: the share of genuine pairs accepted when one impostor pair in 10^n is accepted.

A pair is accepted if its cosine is *above* the threshold. The threshold of a FAR is the lowest one
that accepts at most that share of the impostor pairs, not the nearest point of a grid: with
``allowed = floor(FAR * impostors)``, it is the highest impostor cosine after the ``allowed``
highest. A FAR that allows fewer than ten impostor pairs is not reported, because it would be a
guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXPONENTS = range(2, 9)
"""FARs are powers of ten, 1e-2 ... 1e-8: exponents keep the arithmetic exact."""
LEAST_ALLOWED = 10


@dataclass(frozen=True)
class Rate:
    """One FAR on one set of pairs: the impostor pairs it allows, or why it is not measured."""

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
    """Plan every FAR from the numbers of ``genuine`` and ``impostors`` pairs.

    ``kept`` is the number of highest impostor scores that will be known; None means all.
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

    ``highest_impostors`` holds the highest impostor cosines in descending order, at least one more
    than the largest ``allowed``.
    """
    return [float(highest_impostors[rate.allowed]) for rate in rates if rate.reason is None]


def rate_report(rates: list[Rate], thresholds: list[float], tars: list[float]) -> dict:
    """JSON by FAR: ``{"tar", "cosine_threshold"}``; both are null, with a reason, if unmeasured."""
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
    """`rate_report` of a set that cannot measure any FAR."""
    rates = [Rate(exponent, 0, reason) for exponent in EXPONENTS]
    return rate_report(rates, [], [])


def pair_rates(cosines: np.ndarray, same: np.ndarray) -> dict:
    """`rate_report` of explicit pairs: ``cosines`` [P], genuine where ``same`` [P]."""
    genuine, impostors = np.sort(cosines[same]), np.sort(cosines[~same])[::-1]
    rates = plan_rates(len(genuine), len(impostors))
    thresholds = thresholds_of(rates, impostors)
    return rate_report(rates, thresholds, [share_above(genuine, t) for t in thresholds])


def share_above(ascending: np.ndarray, threshold: float) -> float:
    """The share of ``ascending`` scores strictly above ``threshold``."""
    above = len(ascending) - np.searchsorted(ascending, threshold, side="right")
    return float(above / len(ascending))
