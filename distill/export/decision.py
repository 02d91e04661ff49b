"""By which threshold of a bundle two faces are said to be of one person, and how sure that is."""

from dataclasses import dataclass
from typing import Any

from curation.errors import UserError
from distill.export.config import Thresholds

PREFERRED_RATES = ("1e-3", "1e-2")
MOST_FALSE_ACCEPTS = 0.1
"""A threshold by which more strangers pass decides nothing."""


@dataclass(frozen=True)
class MatchThreshold:
    """Same person where the cosine is above ``cosine``; ``far`` and ``tar`` as measured on ``set``.

    ``kind`` is what the threshold was chosen for. ``digest`` is that of the set.
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
    """By the FAR asked for, else by 1e-3, 1e-2 or the best accuracy; None if there is none of them.

    The threshold of the best accuracy decides nothing where more than one stranger in ten passes,
    or if the bundle, being older, does not say how many. Raises `UserError` if there is no
    threshold for the requested FAR.
    """
    measured = {
        name: rate for name, rate in thresholds.false_accept_rates.items() if rate is not None
    }
    if far is not None and far not in measured:
        raise UserError(
            f"--far {far}: this bundle has no threshold for it; there are "
            f"{', '.join(measured) or 'none, as its evaluation sets were too small'}"
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
