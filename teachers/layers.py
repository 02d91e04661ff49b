"""Layers that several families share, and a PReLU that trains faster than PyTorch's."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[int], nn.Module]
"""From the number of channels to an activation layer; the class `PReLU` is one."""


class PReLU(nn.PReLU):
    """``nn.PReLU`` with a vectorised backward pass on the CPU.

    PyTorch's CPU kernel takes a quarter of a MobileFaceNet step; these elementwise operations give
    the same numbers in about a third of its time. On GPUs and in evaluation PyTorch's is used.
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


def relu(channels: int) -> nn.Module:
    """ReLU as an `Activation`."""
    return nn.ReLU()


def swish(channels: int) -> nn.Module:
    """Swish (SiLU) as an `Activation`."""
    return nn.SiLU()


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation and an activation; ``activation=None`` makes it linear.

    The convolution has no bias. ``epsilon`` is that of the batch normalisation.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        groups: int = 1,
        activation: Activation | None = PReLU,
        epsilon: float = 1e-5,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(channels_in, channels, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(channels, eps=epsilon),
        ]
        if activation is not None:
            layers.append(activation(channels))
        super().__init__(*layers)


class Concatenate(nn.Module):
    """Concatenation of channels whose gradients batch normalisation processes fast.

    The gradient of ``torch.cat`` is a slice for each part. BatchNorm's backward pass on the CPU
    takes several times as long for a slice of a channels_last map as for a copy of it.
    """

    def forward(self, *parts: Tensor) -> Tensor:
        if self.training:
            for part in parts:
                if part.requires_grad:
                    part.register_hook(torch.clone)
        return torch.cat(parts, 1)


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate computed from their means: Hu et al., Squeeze-and-Excitation, 2018.

    [B, C, H, W] to the same shape; the hidden layer has ``channels / reduction`` units, rounded.
    """

    def __init__(
        self,
        channels: int,
        reduction: int,
        activation: Activation = PReLU,
        bias: bool = True,
    ) -> None:
        super().__init__()
        hidden = max(1, round(channels / reduction))
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=bias)
        self.activation = activation(hidden)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        gate = self.excite(self.activation(self.squeeze(means))).sigmoid()
        return x * gate


def initialise_convolutions(network: nn.Module) -> None:
    """He initialisation of all convolutions by fan-out, for PReLUs with initial slope 0.25."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.25, mode="fan_out")
