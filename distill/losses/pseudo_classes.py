"""Distillation over pseudo-classes: the teacher's answers to recent pictures, kept in a queue."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.loss import Loss, LossInputs, register
from distill.losses.settings import PseudoClassesSettings

_OF_NO_CLASS = -1e4
"""The logit of a place that is still empty; unlike minus infinity, 0 times it is 0."""


@register("pseudo_classes")
class PseudoClasses(Loss):
    """Divergence of two softmaxes over the teacher's embeddings of the last pictures::

        loss = mean over images of  KL(softmax(Q u / T), softmax(Q x / T))

    for the student's embedding x, the teacher's u, and the rows of Q, all of length 1: each picture
    is a class of its own, so it needs no labels. Beyer et al. (2021) compare predictions of a
    classifier; where there is none, LightlyTrain ("distillation", 2025) compares with a queue.
    ``queue`` [queue, D] is a buffer in the teacher's width, kept in checkpoints. In training it
    takes in the batch of all ranks first, in the place of the oldest.

    Args:
        embedding: D, or the student's width with ``project``.
        queue: the pictures that are classes, 4096 unless given; LightlyTrain's is about a quarter
            of a data set of 20,000, and 8192 for larger ones.
        temperature: T, 0.07 unless given, as in LightlyTrain.
        weight: multiplies the loss.
        project: learn a linear map from the width ``embedding`` to ``teacher_embedding``.

    Example:
        >>> loss = PseudoClasses(embedding=32, queue=64)
        >>> loss(torch.randn(8, 32, requires_grad=True), teacher=torch.randn(8, 32)).backward()
    """

    settings: PseudoClassesSettings
    queue: Tensor
    taken: Tensor

    def __init__(self, *settings: Any, **given: Any) -> None:
        super().__init__(*settings, **given)
        width = self._size("embedding")
        self.register_buffer("queue", torch.zeros(self.settings.queue, width))
        self.register_buffer("taken", torch.zeros((), dtype=torch.long))

    def formula(self, inputs: LossInputs) -> Tensor:
        if self.training:
            self._take_in(inputs.all_gather(inputs.unit_teacher))
        ours = self._log_probabilities(inputs.unit_embeddings)
        wanted = self._log_probabilities(inputs.unit_teacher)
        return F.kl_div(ours, wanted, reduction="batchmean", log_target=True)

    def _take_in(self, teacher: Tensor) -> None:
        """``taken`` counts all pictures ever; that of number n is in place n modulo the size."""
        size, count = len(self.queue), len(teacher)
        numbers = self.taken + torch.arange(count, device=teacher.device)
        self.queue[numbers[-size:] % size] = teacher.detach()[-size:].to(self.queue.dtype)
        self.taken += count

    def _log_probabilities(self, unit: Tensor) -> Tensor:
        logits = F.linear(unit, self.queue.to(unit.dtype)) / self.settings.temperature
        places = torch.arange(len(self.queue), device=unit.device)
        return F.log_softmax(logits.masked_fill(places >= self.taken, _OF_NO_CLASS), dim=1)
