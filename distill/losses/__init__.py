"""Every loss by name; one file a loss, and each of use in anyone's training loop::

    from distill.losses import ArcFace

    loss = ArcFace(identities=10_000, embedding=512)
    loss(embeddings, labels).backward()

Settings are there at once. Whoever asks for a loss, ``LOSSES`` or ``WeightedLosses`` imports every
file of this package, and with them torch.
"""

from typing import TYPE_CHECKING, Any

from distill.losses.settings import (
    ComparisonSettings,
    HeadSettings,
    LossSettings,
    check_shardable,
    parse_losses,
)

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
    """What brings torch: a class above, or a registered loss by the name of its class."""
    if name[:1].isupper():  # no name of a module
        from distill.losses.loss import LOSSES, Loss, LossInputs, import_all
        from distill.losses.weighted import WeightedLosses

        import_all()
        classes = [Loss, LossInputs, WeightedLosses, *(entry.loss for entry in LOSSES.values())]
        found = {"LOSSES": LOSSES, **{each.__name__: each for each in classes}}
        if name in found:
            return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
