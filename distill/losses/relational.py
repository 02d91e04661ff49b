"""Relational distillation (RKD): Park et al., 2019: distances (Eq. 5 to 7), angles (Eq. 8 and 9).

Embeddings are normalised, because faces are compared by angle. Teacher and student may differ in
width. Each rank compares the images of its own micro-batch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.loss import Loss, LossInputs, register
from distill.losses.settings import RelationalAngleSettings, RelationalDistanceSettings

_SMALLEST_MEAN = 1e-12
_CHUNK = 1 << 20
"""Angles in memory at a time; a batch of B images has B^3."""
_SMALLEST_LENGTH = 1e-3
"""float32 cannot resolve the direction of a shorter side; its angles tend to a right angle."""


@register("relational_distance")
class RelationalDistance(Loss):
    """Huber loss between the distances within the batch, each in units of the mean distance::

        loss = mean over pairs of images i, j of  huber( |x_i - x_j| / mean,  |u_i - u_j| / mean )

    for the student's embeddings x and the teacher's u, of length 1. The loss is a mean over
    all ordered pairs, including those of an image with itself; the mean distance is that of
    different images. Both are as in the authors' code. Needs no labels.

    Args:
        weight: multiplies the loss; in the paper 1 with a metric loss, 25 with a softmax loss.

    Example:
        >>> loss = RelationalDistance()
        >>> loss(torch.randn(8, 32, requires_grad=True), teacher=torch.randn(8, 64)).backward()
    """

    settings: RelationalDistanceSettings

    def formula(self, inputs: LossInputs) -> Tensor:
        return relational_distance_loss(inputs.unit_embeddings, inputs.unit_teacher)


@register("relational_angle")
class RelationalAngle(Loss):
    """Huber loss between the cosines of the angles in every triangle of three images::

        loss = weight * mean over images i, j, k of  huber( cos x_ijk,  cos u_ijk )

    for the angles at image j, x_ijk between the student's embeddings and u_ijk between the
    teacher's, all of length 1. The mean is over all B^3 ordered triples, including degenerate ones,
    as in the authors' code. Needs no labels.

    Args:
        weight: default 2, as in the paper with a metric loss; 50 with a softmax loss.

    Example:
        >>> loss = RelationalAngle()
        >>> loss(torch.randn(8, 32, requires_grad=True), teacher=torch.randn(8, 64)).backward()
    """

    settings: RelationalAngleSettings

    def formula(self, inputs: LossInputs) -> Tensor:
        return relational_angle_loss(inputs.unit_embeddings, inputs.unit_teacher)


def relational_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The loss of unit embeddings [B, D] and [B, Dt]."""
    return F.smooth_l1_loss(_relative_distances(student), _relative_distances(teacher))


def _relative_distances(unit: Tensor) -> Tensor:
    """Distances [B, B] divided by the mean over different images; 0 if all images are equal."""
    # Differences are exact for near neighbours, unlike products, and have gradient 0 at distance 0.
    distances = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = max(1, len(unit) * (len(unit) - 1))
    return distances / (distances.sum() / pairs).clamp_min(_SMALLEST_MEAN)


def relational_angle_loss(student: Tensor, teacher: Tensor, chunk: int = _CHUNK) -> Tensor:
    """The loss of unit embeddings [B, D] and [B, Dt]; holds at most max(``chunk``, B^2) angles."""
    total: Tensor = _SummedHuber.apply(student @ student.T, teacher @ teacher.T, chunk)
    return total / len(student) ** 3


class _SummedHuber(torch.autograd.Function):
    """The sum over all triples, from the inner products [B, B] of student and teacher.

    The forward pass also computes the gradient, a few corners at a time: keeping B^3 angles for the
    backward pass would take gigabytes.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, chunk: int) -> Tensor:
        count = len(student)
        student = student.detach().requires_grad_()
        total, gradient = student.new_zeros(()), torch.zeros_like(student)
        for corners in torch.arange(count, device=student.device).split(max(1, chunk // count**2)):
            target = _cosines(teacher, corners)
            with torch.enable_grad():
                loss = F.smooth_l1_loss(_cosines(student, corners), target, reduction="sum")
            gradient += torch.autograd.grad(loss, student)[0]
            total += loss.detach()
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None, None


def _cosines(products: Tensor, corners: Tensor) -> Tensor:
    """Cosines [corners, B, B] of the angles at each corner between any two other images.

    For a corner c and ends i and k, ``(x_i - x_c) . (x_k - x_c)`` follows from the products.
    """
    at_corner, own = products[corners], products.diagonal()[corners]
    sides = products[None] - at_corner[:, :, None] - at_corner[:, None, :] + own[:, None, None]
    lengths = sides.diagonal(dim1=1, dim2=2).clamp_min(_SMALLEST_LENGTH**2).sqrt()
    return sides / lengths[:, :, None] / lengths[:, None, :]
