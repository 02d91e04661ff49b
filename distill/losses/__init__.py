"""Every loss by name; one file a loss.

Settings are there at once. Whoever asks for ``LOSSES`` or ``WeightedLosses`` imports every file of
this package, and with them torch.
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
    from distill.losses.inputs import LossInputs
    from distill.losses.registry import LOSSES, WeightedLosses

__all__ = [
    "LOSSES",
    "ComparisonSettings",
    "HeadSettings",
    "LossInputs",
    "LossSettings",
    "WeightedLosses",
    "check_shardable",
    "parse_losses",
]


def __getattr__(name: str) -> Any:
    if name not in {"LOSSES", "LossInputs", "WeightedLosses"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from distill.losses import inputs, registry

    registry.import_all()
    return getattr(inputs if name == "LossInputs" else registry, name)
