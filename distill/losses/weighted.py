"""The weighted sum of losses, which is what a stage of training minimises."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from distill.losses.class_weights import SampledClassWeights
from distill.losses.loss import LOSSES, LossInputs, at_least_float32, new_class_weights
from distill.losses.settings import ComparisonSettings, LossSettings


class WeightedLosses(nn.Module):
    """The weighted sum of named losses; reports each part unweighted.

    Holds the class centres, which all losses that need centres share, as a parameter
    [identities, D], or [identities, S, D] where a loss asks for S sub-centres of each identity.
    ``identity_counts`` int64 [identities] are the images of each, which class balance needs.
    ``teacher_embedding`` is the teacher's width Dt, where it may be another than the student's.
    Where ``needs_teacher_centres``, set ``teacher_centres``, unit vectors [identities, Dt].
    ``sampled`` says whose centres the rows of ``centres`` are while these are not those of all.
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

        ``inputs`` come without centres and counts, which are put in here.
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
        """Whether the loss looks only at ``sampled`` identities, by their rows. Others see all.

        The teacher's centres are on every rank, so they need not be sharded with the student's.
        """
        sharded = self.sampled is not None and self.sampled.sharded
        settings = LOSSES[name].settings
        return settings.needs_centres or (settings.needs_teacher_centres and not sharded)

    def _given_to(self, name: str, inputs: LossInputs) -> LossInputs:
        """``inputs`` with the embeddings projected, where the loss asks for it."""
        if name not in self.projections:
            return inputs
        projected = self.projections[name](at_least_float32(inputs.embeddings))
        return replace(inputs, embeddings=projected)
