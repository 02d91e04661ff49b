"""Distillation of softmax logits: Hinton et al., 2015, through the teacher's class centres."""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.loss import Loss, LossInputs, register
from distill.losses.settings import TeacherLogitsSettings


@register("teacher_logits")
class TeacherLogits(Loss):
    """KL divergence between the softmaxes of teacher and student over identities::

        loss = T^2 * mean over images of  KL(softmax(s V u / T), softmax(s V x / T))

    for the student's embedding x, the teacher's u, and the teacher's centres V, all of length 1.
    The student inherits the classifier (Shi et al., ProxylessKD, 2020), so it has to learn the
    teacher's embedding space. Needs no labels.

    Args:
        teacher_centres: V, the teacher's mean embedding of each identity, [identities, D].
        scale: s; default 64.
        temperature: T; default 4.
        weight: multiplies the loss.
        project: learn a linear map from the width ``embedding`` to the teacher's.

    Example:
        >>> loss = TeacherLogits(teacher_centres=torch.randn(100, 32))
        >>> loss(torch.randn(8, 32, requires_grad=True), teacher=torch.randn(8, 32)).backward()
    """

    settings: TeacherLogitsSettings

    def formula(self, inputs: LossInputs) -> Tensor:
        assert inputs.teacher_centres is not None, "logits are cosines to the teacher's centres"
        ours = self._log_probabilities(inputs.unit_embeddings, inputs.teacher_centres)
        wanted = self._log_probabilities(inputs.unit_teacher, inputs.teacher_centres)
        divergence = F.kl_div(ours, wanted, reduction="batchmean", log_target=True)
        return divergence * self.settings.temperature**2

    def _log_probabilities(self, unit: Tensor, centres: Tensor) -> Tensor:
        factor = self.settings.scale / self.settings.temperature
        return F.log_softmax(F.linear(unit, centres) * factor, dim=1)
