"""The weighted sum of losses that a training stage minimises."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from distill.losses.class_weights import SampledClassWeights
from distill.losses.loss import LOSSES, LossInputs, at_least_float32, new_class_weights
from distill.losses.settings import ComparisonSettings, LossSettings


class WeightedLosses(nn.Module):
    """The weighted sum of named losses; the parts are reported unweighted.

    All losses that need class weights share the parameter ``centres`` [identities, D], or
    [identities, S, D] if a loss asks for S sub-centres per identity. ``identity_counts`` int64
    [identities] are the images per identity, for class balance. ``teacher_embedding`` is the
    teacher's width Dt if it differs from the student's. If ``needs_teacher_centres``, set
    ``teacher_centres`` to unit vectors [identities, Dt]. ``sampled`` maps the rows of ``centres``
    to identities while they cover only some of them.
    """

    teacher_centres: Tensor | None
    sampled: SampledClassWeights | None = None

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
        on_centres = [loss for loss in settings.values() if loss.needs_centres]
        if on_centres:
            each = max(loss.centres_per_identity for loss in on_centres)
            self.centres = new_class_weights(identities, embedding, each)
        self.identity_counts: Tensor
        self.register_buffer("identity_counts", identity_counts, persistent=False)
        self.register_buffer("teacher_centres", None, persistent=False)
        self.projections = nn.ModuleDict(
            {
                name: nn.Linear(embedding, teacher_embedding or embedding, bias=False)
                for name, loss in settings.items()
                if isinstance(loss, ComparisonSettings) and loss.project
            }
        )
        widths = {
            name: linear.out_features
            for name, linear in self.projections.items()
            if isinstance(linear, nn.Linear)
        }
        self.parts = nn.ModuleDict(
            {
                name: LOSSES[name].build(loss, widths.get(name, embedding), identities)
                for name, loss in settings.items()
            }
        )

    @property
    def needs_teacher(self) -> bool:
        return any(LOSSES[name].settings.needs_teacher for name in self.parts)

    @property
    def needs_teacher_centres(self) -> bool:
        return any(LOSSES[name].settings.needs_teacher_centres for name in self.parts)

    def forward(self, inputs: LossInputs) -> dict[str, Tensor]:
        """``{"total": sum, NAME: part, ...}``, each a scalar.

        ``inputs`` come without class weights and counts, which are added here.
        """
        inputs = replace(
            inputs,
            centres=self.centres,
            identity_counts=self.identity_counts,
            teacher_centres=self.teacher_centres,
        )
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            on_centres = inputs if self.sampled is None else self.sampled.select(inputs)
            parts = {
                name: loss(
                    self._given_to(name, on_centres if self._is_on_centres(name) else inputs)
                )
                for name, loss in self.parts.items()
            }
        total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return {"total": total, **parts}

    def _is_on_centres(self, name: str) -> bool:
        """Whether the loss sees only ``sampled`` identities, indexed by row; others see all.

        Every rank holds all teacher centres, so they need not be sharded with the student's.
        """
        sharded = self.sampled is not None and self.sampled.sharded
        settings = LOSSES[name].settings
        return settings.needs_centres or (settings.needs_teacher_centres and not sharded)

    def _given_to(self, name: str, inputs: LossInputs) -> LossInputs:
        """``inputs`` with projected embeddings, if the loss asks for it."""
        if name not in self.projections:
            return inputs
        projected = self.projections[name](at_least_float32(inputs.embeddings))
        return replace(inputs, embeddings=projected)
