"""Layers that train faster than PyTorch's own and compute the same."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PReLU(nn.PReLU):
    """``nn.PReLU`` whose backward pass on the CPU is vectorised.

    PyTorch's CPU kernel takes a quarter of a MobileFaceNet step; these elementwise passes give
    the same numbers in about a third of its time. Elsewhere, and in evaluation, it is PyTorch's.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.device.type == "cpu" and x.ndim == 4:
            return _VectorisedPReLU.apply(x, self.weight)
        return super().forward(x)


class _VectorisedPReLU(torch.autograd.Function):
    @staticmethod
    def forward(context, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        context.save_for_backward(x, weight)
        return F.prelu(x, weight)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        x, weight = context.saved_tensors
        where_positive = torch.ops.aten.threshold_backward(gradient, x, 0)
        where_negative = gradient - where_positive
        for_input = where_positive.addcmul_(where_negative, weight.view(1, -1, 1, 1))
        for_weight = where_negative.mul_(x).sum((0, 2, 3))
        return for_input, for_weight
