"""The losses, one per file. Each also works in your own training loop::

    from distill.losses import ArcFace

    loss = ArcFace(identities=10_000, embedding=512)
    loss(embeddings, labels).backward()

The settings classes import without torch. Accessing a loss, ``LOSSES`` or ``WeightedLosses``
imports every file of this package, and torch with it.
"""

from typing import TYPE_CHECKING, Any

from distill.losses.settings import ComparisonSettings, HeadSettings, LossSettings, import_all
from distill.losses.settings_parsing import check_shardable, parse_losses

if TYPE_CHECKING:
    from distill.losses.loss import LOSSES, Loss, LossInputs
    from distill.losses.weighted import WeightedLosses

__all__ = [
    "LOSSES",
    "ComparisonSettings",
    "HeadSettings",
    "Loss",
    "LossInputs",
    "LossSettings",
    "WeightedLosses",
    "check_shardable",
    "parse_losses",
]


def __getattr__(name: str) -> Any:
    """Import the names that need torch on first access: those above and every registered loss."""
    if name[:1].isupper():  # modules are lower case
        from distill.losses.loss import LOSSES, Loss, LossInputs
        from distill.losses.weighted import WeightedLosses

        import_all()
        classes = [Loss, LossInputs, WeightedLosses, *(entry.loss for entry in LOSSES.values())]
        found = {"LOSSES": LOSSES, **{each.__name__: each for each in classes}}
        if name in found:
            return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
