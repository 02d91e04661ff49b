"""The registry of losses, and their weighted sum, which is what a stage of training minimises.

Every loss is a module that takes ``LossInputs`` and returns a scalar. It registers beside its
definition, with its settings::

    @register("angular", AngularSettings, needs_teacher=True)
    class Angular(nn.Module): ...
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError
from torch import Tensor, nn

from curation.errors import UserError
from curation.suggestions import hint, listed
from distill.losses.held_centres import HeldCentres
from distill.losses.inputs import LossInputs, at_least_float32
from distill.losses.needs import Needs


class LossSettings(BaseModel):
    """What every loss can be told; each adds its own. ``weight`` scales it in the sum."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    weight: PositiveFloat = 1.0

    @property
    def centres_per_identity(self) -> int:
        """How many centres of each identity the loss asks for, where it needs centres."""
        return 1


class ComparisonSettings(LossSettings):
    """Of losses that compare embeddings with vectors of the teacher, so that widths must be equal.

    With ``project`` they need not be: the loss is given the embeddings through a linear map without
    bias to the teacher's width, which is learnt with the losses and is not part of the network.
    """

    project: bool = False


@dataclass(frozen=True)
class LossEntry:
    """A registered loss. ``build(settings, embedding, identities)`` makes the module.

    ``embedding`` is the width of the embeddings that the loss is given.
    """

    name: str
    settings: type[LossSettings]
    build: Callable[[Any, int, int], nn.Module]
    needs_teacher: bool
    needs_centres: bool
    needs_teacher_centres: bool

    @property
    def needs(self) -> Needs:
        """What its class says that it must find in a batch."""
        return getattr(self.build, "needs", Needs())


LOSSES: dict[str, LossEntry] = {}


def register(
    name: str,
    settings: type[LossSettings],
    needs_teacher: bool = False,
    needs_centres: bool = False,
    needs_teacher_centres: bool = False,
) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Enter a loss class under ``name``."""

    def enter(loss: type[nn.Module]) -> type[nn.Module]:
        assert name not in LOSSES, f"{name} is registered twice"
        LOSSES[name] = LossEntry(
            name, settings, loss, needs_teacher, needs_centres, needs_teacher_centres
        )
        return loss

    return enter


def parse_losses(given: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, LossSettings]:
    """Check ``{name: {setting: value}}`` as a job spec gives it; ``UserError`` names the key."""
    if not given:
        raise UserError(f"{where}: at least one loss is needed{listed(sorted(LOSSES))}")
    parsed = {}
    for name, settings in given.items():
        if name not in LOSSES:
            raise UserError(f"{where}.{name}: no such loss{hint(name, sorted(LOSSES))}")
        try:
            parsed[name] = LOSSES[name].settings.model_validate(settings)
        except ValidationError as error:
            raise UserError(_refusal(f"{where}.{name}", name, error)) from None
    return parsed


def _refusal(where: str, name: str, error: ValidationError) -> str:
    """What is wrong with the settings of a loss."""
    first = error.errors()[0]
    key = ".".join([where, *map(str, first["loc"])])
    settings = LOSSES[name].settings.model_fields
    if first["type"] == "extra_forbidden":
        return f"{key}: {name} has no such setting{hint(str(first['loc'][-1]), settings)}"
    return f"{key}: {first['msg']} (settings are {', '.join(settings)})"


class WeightedLosses(nn.Module):
    """The weighted sum of named losses; reports each part unweighted.

    Holds the class centres, which all losses that need centres share, as a parameter
    [identities, D], or [identities, S, D] where a loss asks for S sub-centres of each identity.
    ``identity_counts`` int64 [identities] are the images of each, which class balance needs.
    ``teacher_embedding`` is the teacher's width Dt, where it may be another than the student's.
    Where ``needs_teacher_centres``, set ``teacher_centres``, unit vectors [identities, Dt].
    ``held`` says whose centres the rows of ``centres`` are while these are not those of all.
    """

    teacher_centres: Tensor | None
    held: HeldCentres | None = None

    def __init__(
        self,
        settings: Mapping[str, LossSettings],
        embedding: int,
        identities: int,
        identity_counts: Tensor | None = None,
        teacher_embedding: int | None = None,
    ) -> None:
        super().__init__()
        self.weights = {name: loss.weight for name, loss in settings.items()}
        self.centres: nn.Parameter | None = None
        on_centres = [loss for name, loss in settings.items() if LOSSES[name].needs_centres]
        if on_centres:
            each = max(loss.centres_per_identity for loss in on_centres)
            shape = (identities, embedding) if each == 1 else (identities, each, embedding)
            self.centres = nn.Parameter(torch.empty(shape))
            nn.init.normal_(self.centres, std=0.01)
        self.register_buffer("identity_counts", identity_counts, persistent=False)
        self.register_buffer("teacher_centres", None, persistent=False)
        self.projections = nn.ModuleDict(
            {
                name: nn.Linear(embedding, teacher_embedding or embedding, bias=False)
                for name, loss in settings.items()
                if isinstance(loss, ComparisonSettings) and loss.project
            }
        )
        widths = {name: linear.out_features for name, linear in self.projections.items()}
        self.parts = nn.ModuleDict(
            {
                name: LOSSES[name].build(loss, widths.get(name, embedding), identities)
                for name, loss in settings.items()
            }
        )

    @property
    def needs_teacher(self) -> bool:
        return any(LOSSES[name].needs_teacher for name in self.parts)

    @property
    def needs_teacher_centres(self) -> bool:
        return any(LOSSES[name].needs_teacher_centres for name in self.parts)

    def forward(self, inputs: LossInputs) -> dict[str, Tensor]:
        """``{"total": sum, NAME: part, ...}``, each a scalar.

        ``inputs`` come without centres and counts, which are put in here.
        """
        inputs = replace(
            inputs,
            centres=self.centres,
            identity_counts=self.identity_counts,
            teacher_centres=self.teacher_centres,
        )
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            on_centres = inputs if self.held is None else self.held.select(inputs)
            parts = {
                name: loss(
                    self._given_to(name, on_centres if self._is_on_centres(name) else inputs)
                )
                for name, loss in self.parts.items()
            }
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return {"total": total, **parts}

    def _is_on_centres(self, name: str) -> bool:
        """Whether the loss looks only at ``held`` identities, by their rows. Others see all.

        The teacher's centres are on every rank, so they need not be sharded with the student's.
        """
        sharded = self.held is not None and self.held.sharded
        entry = LOSSES[name]
        return entry.needs_centres or (entry.needs_teacher_centres and not sharded)

    def _given_to(self, name: str, inputs: LossInputs) -> LossInputs:
        """``inputs`` with the embeddings projected, where the loss asks for it."""
        if name not in self.projections:
            return inputs
        projected = self.projections[name](at_least_float32(inputs.embeddings))
        return replace(inputs, embeddings=projected)
