"""The registry of losses, and their weighted sum, which is what a stage of training minimises.

Every loss is a module that takes ``LossInputs`` and returns a scalar. It registers beside its
definition, with its settings::

    @register("angular", AngularSettings, needs_teacher=True)
    class Angular(nn.Module): ...
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError
from torch import Tensor, nn

from curation.errors import UserError


class LossSettings(BaseModel):
    """What every loss can be told; each adds its own. ``weight`` scales it in the sum."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    weight: PositiveFloat = 1.0


@dataclass(frozen=True)
class LossInputs:
    """One batch: raw ``embeddings`` [B, D], ``labels`` int64 [B], ``teacher`` [B, D] or None."""

    embeddings: Tensor
    labels: Tensor
    teacher: Tensor | None = None


@dataclass(frozen=True)
class LossEntry:
    """A registered loss. ``build(settings, embedding, identities)`` makes the module."""

    name: str
    settings: type[LossSettings]
    build: Callable[[Any, int, int], nn.Module]
    needs_teacher: bool


LOSSES: dict[str, LossEntry] = {}


def register(
    name: str, settings: type[LossSettings], needs_teacher: bool = False
) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Enter a loss class under ``name``."""

    def enter(loss: type[nn.Module]) -> type[nn.Module]:
        assert name not in LOSSES, f"{name} is registered twice"
        LOSSES[name] = LossEntry(name, settings, loss, needs_teacher)
        return loss

    return enter


def parse_losses(given: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, LossSettings]:
    """Check ``{name: {setting: value}}`` as a job spec gives it; ``UserError`` names the key."""
    if not given:
        raise UserError(f"{where}: at least one loss is needed; there are {', '.join(LOSSES)}")
    parsed = {}
    for name, settings in given.items():
        if name not in LOSSES:
            raise UserError(f"{where}.{name}: no such loss; there are {', '.join(sorted(LOSSES))}")
        try:
            parsed[name] = LOSSES[name].settings.model_validate(settings)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join([where, name, *map(str, first["loc"])])
            allowed = ", ".join(LOSSES[name].settings.model_fields)
            raise UserError(f"{key}: {first['msg']} (settings are {allowed})") from None
    return parsed


class WeightedLosses(nn.Module):
    """The weighted sum of named losses; reports each part unweighted."""

    def __init__(
        self, settings: Mapping[str, LossSettings], embedding: int, identities: int
    ) -> None:
        super().__init__()
        self.weights = {name: loss.weight for name, loss in settings.items()}
        self.parts = nn.ModuleDict(
            {
                name: LOSSES[name].build(loss, embedding, identities)
                for name, loss in settings.items()
            }
        )

    @property
    def needs_teacher(self) -> bool:
        return any(LOSSES[name].needs_teacher for name in self.parts)

    def forward(self, inputs: LossInputs) -> dict[str, Tensor]:
        """``{"total": sum, NAME: part, ...}``, each a scalar."""
        parts = {name: loss(inputs) for name, loss in self.parts.items()}
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return {"total": total, **parts}
