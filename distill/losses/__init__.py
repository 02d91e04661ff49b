"""Every loss by name; one file a loss."""

from distill.losses import angular, arcface
from distill.losses.registry import LOSSES, LossInputs, LossSettings, WeightedLosses, parse_losses

__all__ = [
    "LOSSES",
    "LossInputs",
    "LossSettings",
    "WeightedLosses",
    "angular",
    "arcface",
    "parse_losses",
]
