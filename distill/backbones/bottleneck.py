"""The inverted residual of MobileNetV2 (Sandler et al., 2018), shared by the mobile networks."""

from collections.abc import Iterable, Iterator
from functools import partial

from torch import Tensor, nn

from teachers.layers import Activation, ConvBlock, PReLU

Row = tuple[int, int, int, int]
"""Expansion, channels, repeats and the first stride, as in Table 2 of MobileNetV2."""


class Bottleneck(nn.Module):
    """Expand 1x1, depthwise, project 1x1 (linear); residual if the shape does not change.

    [B, C, H, W] to [B, channels, H / stride, W / stride]. The 1x1 expansion is present even for an
    expansion factor of 1.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        expansion: int,
        stride: int,
        kernel: int = 3,
        activation: Activation = PReLU,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        hidden = channels_in * expansion
        block = partial(ConvBlock, epsilon=epsilon)
        self.expand = block(channels_in, hidden, activation=activation)
        self.depthwise = block(
            hidden, hidden, kernel, stride, kernel // 2, groups=hidden, activation=activation
        )
        self.project = block(hidden, channels, activation=None)
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def unrolled(rows: Iterable[Row]) -> Iterator[tuple[int, int, int]]:
    """(expansion, channels, stride) of every bottleneck of a table."""
    for expansion, channels, repeats, first_stride in rows:
        yield expansion, channels, first_stride
        for _ in range(repeats - 1):
            yield expansion, channels, 1
