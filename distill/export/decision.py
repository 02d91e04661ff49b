"""Chooses the threshold of a bundle for the decision whether two faces show the same person."""

from dataclasses import dataclass
from typing import Any

from curation.errors import UserError
from distill.export.config import Thresholds

PREFERRED_RATES = ("1e-3", "1e-2")
MOST_FALSE_ACCEPTS = 0.1
"""A threshold with a higher FAR is not used for decisions."""


@dataclass(frozen=True)
class MatchThreshold:
    """Same person if the cosine is above ``cosine``; ``far`` and ``tar`` are measured on ``set``.

    ``kind`` describes how the threshold was chosen. ``digest`` is that of the set.
    """

    cosine: float
    kind: str
    far: float
    tar: float
    set: str
    digest: str
    impostors: int

    def __str__(self) -> str:
        return (
            f"same person where cosine > {self.cosine:.4f} ({self.kind}; FAR {self.far:.3g}, TAR "
            f"{self.tar:.4f}, measured on {self.set} with {self.impostors:,} impostor pairs)"
        )


def choose_decision(thresholds: Thresholds, far: str | None = None) -> MatchThreshold | None:
    """The threshold of the given FAR, or else of 1e-3, 1e-2 or the best accuracy; None without any.

    The threshold of the best accuracy is not used if its FAR exceeds 0.1, or if its FAR is missing,
    as in older bundles. Raises `UserError` if there is no threshold for the given FAR.
    """
    measured = {
        name: rate for name, rate in thresholds.false_accept_rates.items() if rate is not None
    }
    if far is not None and far not in measured:
        raise UserError(
            f"--far {far}: this bundle has no threshold for it; there are "
            f"{', '.join(measured) or 'none, because its evaluation sets were too small'}"
        )
    for name in (far,) if far else PREFERRED_RATES:
        if name in measured:
            found = measured[name]
            return MatchThreshold(kind=f"chosen for FAR {name}", far=float(name), **_shared(found))
    best = thresholds.best_accuracy
    if best is None or best.far is None or best.far > MOST_FALSE_ACCEPTS:
        return None
    kind = f"best ten-fold accuracy, {best.accuracy:.4f}"
    return MatchThreshold(kind=kind, far=best.far, **_shared(best))


def _shared(found: Any) -> dict[str, Any]:
    return {
        "cosine": found.threshold,
        "tar": found.tar,
        "set": found.set,
        "digest": found.digest,
        "impostors": found.impostors,
    }
