"""Distillation over pseudo-classes: a queue of the teacher's embeddings of recent images."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.loss import Loss, LossInputs, register
from distill.losses.settings import PseudoClassesSettings

_OF_NO_CLASS = -1e4
"""The logit of an empty place in the queue. Finite, because 0 times minus infinity is NaN."""


@register("pseudo_classes")
class PseudoClasses(Loss):
    """KL divergence of two softmaxes over the teacher's embeddings of the latest images::

        loss = mean over images of  KL(softmax(Q u / T), softmax(Q x / T))

    for the student's embedding x, the teacher's u and the rows of Q, all of length 1. Each image is
    a class of its own, so the loss needs no labels. Beyer et al. (2021) compare the predictions of
    a classifier; LightlyTrain ("distillation", 2025) uses a queue where there is none. ``queue``
    [queue, D] is a buffer with the teacher's width, saved in checkpoints. In training mode the
    batch of all ranks replaces the oldest entries before the loss is computed.

    Args:
        embedding: D, or the student's width with ``project``.
        queue: the number of images that serve as classes; default 4096. LightlyTrain uses
            about a quarter of a data set of 20,000 images, and 8192 for larger ones.
        temperature: T; default 0.07, as in LightlyTrain.
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
        """Replace the oldest entries. ``taken`` counts all images so far; image n goes to place
        n modulo the queue size."""
        size, count = len(self.queue), len(teacher)
        numbers = self.taken + torch.arange(count, device=teacher.device)
        self.queue[numbers[-size:] % size] = teacher.detach()[-size:].to(self.queue.dtype)
        self.taken += count

    def _log_probabilities(self, unit: Tensor) -> Tensor:
        logits = F.linear(unit, self.queue.to(unit.dtype)) / self.settings.temperature
        places = torch.arange(len(self.queue), device=unit.device)
        return F.log_softmax(logits.masked_fill(places >= self.taken, _OF_NO_CLASS), dim=1)
