"""Distillation of softmax logits: Hinton et al., 2015, through the teacher's class centres."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import TeacherLogitsSettings


@register("teacher_logits")
class TeacherLogits(nn.Module):
    """Divergence of the student's softmax over identities from the teacher's, times T^2.

    Logits are the scaled cosines to the teacher's class centres, for both (the classifier is
    inherited: Shi et al., ProxylessKD, 2020), so the student has to come to the teacher's space.
    Knows the identities only as centres, so it needs no labels.
    """

    def __init__(self, settings: TeacherLogitsSettings, embedding: int, identities: int) -> None:
        super().__init__()
        self.scale, self.temperature = settings.scale, settings.temperature

    def forward(self, inputs: LossInputs) -> Tensor:
        assert inputs.teacher_centres is not None, "logits are cosines to the teacher's centres"
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            ours = self._log_probabilities(inputs.unit_embeddings, inputs.teacher_centres)
            wanted = self._log_probabilities(inputs.unit_teacher, inputs.teacher_centres)
            divergence = F.kl_div(ours, wanted, reduction="batchmean", log_target=True)
            return divergence * self.temperature**2

    def _log_probabilities(self, unit: Tensor, centres: Tensor) -> Tensor:
        return F.log_softmax(F.linear(unit, centres) * (self.scale / self.temperature), dim=1)
