"""Octave convolution: Chen et al., Drop an Octave, 2019.

A share alpha of the channels, the low frequencies, is stored at half the height and width. Details
follow the authors' code (facebookresearch/OctConv): average pooling for downsampling and strides,
nearest-neighbour upsampling, and no paths between the frequencies in depthwise convolutions.
"""

import math
from functools import partial
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from teachers.layers import Activation

Frequencies: TypeAlias = tuple[Tensor, Tensor | None]
"""High [B, C_high, H, W] and low [B, C_low, H / 2, W / 2]; None instead of low if alpha is 0"""


def split_channels(channels: int, alpha: float) -> tuple[int, int]:
    """The numbers of high-frequency and low-frequency channels."""
    low = int(channels * alpha)
    return channels - low, low


class OctaveConv(nn.Module):
    """Convolution between all frequencies, without bias; H and W are multiples of 2 x stride.

    The share of low-frequency channels changes from ``alpha_in`` to ``alpha``. Each of the up to
    four paths uses as many of the ``groups`` as divide its channels.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        alpha_in: float,
        alpha: float,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.stride = stride
        high_in, low_in = split_channels(channels_in, alpha_in)
        high, low = split_channels(channels, alpha)
        path = partial(_path, kernel=kernel, groups=groups)
        self.high_to_high = path(high_in, high)
        self.low_to_high = path(low_in, high) if low_in else None
        self.high_to_low = path(high_in, low) if low else None
        self.low_to_low = path(low_in, low) if low_in and low else None

    def forward(self, x: Frequencies) -> Frequencies:
        high, low = x
        high = _shrunk(high, self.stride)
        new_high = self.high_to_high(high)
        if self.low_to_high is not None:
            # With stride 2 the low frequencies are already on the grid of the new high ones.
            rising = self.low_to_high(low)
            new_high = new_high + (rising if self.stride == 2 else _doubled(rising))
        if self.high_to_low is None:
            return new_high, None
        new_low = self.high_to_low(_shrunk(high, 2))
        if self.low_to_low is not None and low is not None:
            new_low = new_low + self.low_to_low(_shrunk(low, self.stride))
        return new_high, new_low


def _path(source: int, target: int, kernel: int, groups: int) -> nn.Conv2d:
    groups = math.gcd(groups, source, target)
    return nn.Conv2d(source, target, kernel, padding=kernel // 2, groups=groups, bias=False)


def _shrunk(x: Tensor, stride: int) -> Tensor:
    return x if stride == 1 else F.avg_pool2d(x, stride)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class DepthwiseOctaveConv(nn.Module):
    """Depthwise 3x3 convolution of each frequency separately, without bias."""

    def __init__(self, channels: int, alpha: float, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        high, low = split_channels(channels, alpha)
        self.high = nn.Conv2d(high, high, 3, 1, 1, groups=high, bias=False)
        self.low = nn.Conv2d(low, low, 3, 1, 1, groups=low, bias=False) if low else None

    def forward(self, x: Frequencies) -> Frequencies:
        high, low = x
        new_low = None if self.low is None or low is None else self.low(_shrunk(low, self.stride))
        return self.high(_shrunk(high, self.stride)), new_low


class OctaveNorm(nn.Module):
    """Batch normalisation and optionally an activation for each frequency."""

    def __init__(self, channels: int, alpha: float, activation: Activation | None) -> None:
        super().__init__()
        high, low = split_channels(channels, alpha)
        self.high = _norm(high, activation)
        self.low = _norm(low, activation) if low else None

    def forward(self, x: Frequencies) -> Frequencies:
        high, low = x
        return self.high(high), None if self.low is None else self.low(low)


def _norm(channels: int, activation: Activation | None) -> nn.Sequential:
    layers: list[nn.Module] = [nn.BatchNorm2d(channels)]
    if activation is not None:
        layers.append(activation(channels))
    return nn.Sequential(*layers)


def add(x: Frequencies, y: Frequencies) -> Frequencies:
    """The sum, frequency by frequency."""
    return x[0] + y[0], None if x[1] is None or y[1] is None else x[1] + y[1]
