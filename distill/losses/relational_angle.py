"""Angle-wise relational distillation (RKD-A): Park et al., 2019, Eq. 8 and 9."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.inputs import LossInputs
from distill.losses.registry import register
from distill.losses.settings import RelationalAngleSettings

_CHUNK = 1 << 20
"""Angles held at a time; a batch of B images has B^3."""
_SMALLEST_LENGTH = 1e-3
"""The direction of a shorter side is lost in float32; its angles go to a right angle."""


@register("relational_angle")
class RelationalAngle(nn.Module):
    """Huber loss between the cosines of the angles in every triangle of three images of the batch.

    Of unit embeddings, since faces are compared by angle; teacher and student may differ in width.
    The mean is over all B^3 ordered triples, degenerate ones included, as in the authors' code.
    Each rank relates the images of its own share of the batch.
    """

    def __init__(self, settings: RelationalAngleSettings, embedding: int, identities: int) -> None:
        super().__init__()

    def forward(self, inputs: LossInputs) -> Tensor:
        with torch.autocast(inputs.embeddings.device.type, enabled=False):
            return relational_angle_loss(inputs.unit_embeddings, inputs.unit_teacher)


def relational_angle_loss(student: Tensor, teacher: Tensor, chunk: int = _CHUNK) -> Tensor:
    """Of unit embeddings [B, D] and [B, Dt]; at most ``chunk`` angles at a time, or B^2."""
    total: Tensor = _SummedHuber.apply(student @ student.T, teacher @ teacher.T, chunk)
    return total / len(student) ** 3


class _SummedHuber(torch.autograd.Function):
    """The sum over all triples, from the inner products [B, B] of student and teacher.

    Value and gradient are computed together, some corners at a time: kept for a backward pass, B^3
    angles would take gigabytes.
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
