"""AdaDistill: Boutros et al., 2024. Class centres track the teacher's embeddings."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.arcface import add_angular_margin
from distill.losses.loss import Loss, LossInputs, at_least_float32, register
from distill.losses.settings import AdaDistillSettings

_SMALLEST_MOMENTUM = 1e-6


@register("adadistill")
class AdaDistill(Loss):
    """ArcFace whose centres are a moving average of teacher embeddings instead of a parameter::

        loss = mean of  -log( e_y / (e_y + sum over k != y of exp(s cos a_k)) )
        e_y = exp(s cos(a_y + m))
        c_y = p c_y + (1 - p) u    p = cos(x, u) cos(u, c_y), at least 0

    for the student's embedding x and the teacher's u of an image of identity y, and the angle a_k
    between x and the centre c_k. A centre moves little while the student agrees with the teacher
    and the teacher's embedding is close to the centre; otherwise it moves far. ``centres``
    [identities, D] is a buffer with the teacher's width. It is saved in checkpoints and passed on
    to the next stage. It is updated in training mode only, from the images of all ranks. The loss
    uses the updated centres, as in the authors' code.

    Args:
        identities, embedding: the shape of the centres.
        margin: m in radians; default 0.45, as in the authors' code.
        scale: s; default 64.
        weight: multiplies the loss.
        project: learn a linear map from the width ``embedding`` to ``teacher_embedding``.

    Example:
        >>> loss = AdaDistill(identities=100, embedding=32)
        >>> embeddings, teacher = torch.randn(8, 32, requires_grad=True), torch.randn(8, 32)
        >>> loss(embeddings, torch.arange(8), teacher).backward()
    """

    settings: AdaDistillSettings
    centres: Tensor

    def __init__(self, *settings: Any, **given: Any) -> None:
        super().__init__(*settings, **given)
        self.register_buffer("centres", torch.empty(self.shape))
        nn.init.normal_(self.centres, std=0.01)

    def formula(self, inputs: LossInputs) -> Tensor:
        student = inputs.unit_embeddings
        if self.training:
            self._move_centres(inputs)
        cosines = F.linear(student, F.normalize(at_least_float32(self.centres)))
        with_margin = add_angular_margin(cosines, inputs.labels, self.settings.margin)
        logits = self.settings.scale * with_margin
        losses = F.cross_entropy(logits, inputs.labels, reduction="none")
        return inputs.mean_over_labelled(losses)

    def _move_centres(self, inputs: LossInputs) -> None:
        agreement = (inputs.unit_embeddings.detach() * inputs.unit_teacher).sum(dim=1)
        own = agreement, inputs.unit_teacher, inputs.labels
        agreement, teacher, labels = map(inputs.all_labelled, own)
        before = at_least_float32(self.centres[labels])
        # Rows of one identity are equal, so the order of the writes does not matter.
        moved = moved_centres(before, teacher, agreement, labels)
        self.centres[labels] = moved.to(self.centres.dtype)


def moved_centres(before: Tensor, teacher: Tensor, agreement: Tensor, labels: Tensor) -> Tensor:
    """The updated centre [B, D] for each image's identity, given its centre ``before`` [B, D].

    ``teacher`` [B, D] holds unit embeddings, ``agreement`` [B] the cosines of student and teacher.
    The momentum of a centre is ``agreement * cos(teacher, centre)``. The centre of an identity with
    several images in the batch becomes the mean of their updates; the authors' code keeps an
    arbitrary one of them.
    """
    nearness = F.cosine_similarity(before, teacher).clamp(_SMALLEST_MOMENTUM, 1.0)
    momentum = (agreement * nearness).clamp(_SMALLEST_MOMENTUM, 1.0)[:, None]
    proposed = momentum * before + (1.0 - momentum) * teacher
    same = (labels[:, None] == labels[None, :]).to(proposed.dtype)
    return same @ proposed / same.sum(dim=1, keepdim=True)
