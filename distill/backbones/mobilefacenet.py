"""MobileFaceNet: Chen et al., MobileFaceNets, 2018, Table 1.

The second row of the table is a depthwise convolution alone, without a pointwise one. Batch
normalisation follows every convolution; PReLU follows all but the linear ones (the projection of
a bottleneck, the global depthwise convolution and the embedding).
"""

from torch import Tensor, nn

from teachers.layers import ConvBlock
from teachers.networks import Size, final_grid, register, scaled

BOTTLENECKS = (
    # expansion, channels, repeats, stride of the first
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)


class Bottleneck(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1 (linear); residual where the shape allows it."""

    def __init__(self, channels_in: int, channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.expand = ConvBlock(channels_in, hidden)
        self.depthwise = ConvBlock(hidden, hidden, 3, stride, 1, groups=hidden)
        self.project = ConvBlock(hidden, channels, activation=None)
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileFaceNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16."""

    after_global = ("embedding",)

    def __init__(
        self, embedding: int = 128, input_size: Size = (112, 112), width: float = 1.0
    ) -> None:
        super().__init__()
        grid = final_grid("mobilefacenet", input_size, stride=16)
        channels, last = scaled(64, width), scaled(512, width)
        self.stem = ConvBlock(3, channels, 3, 2, 1)
        self.depthwise = ConvBlock(channels, channels, 3, 1, 1, groups=channels)
        blocks = []
        for expansion, base, repeats, first_stride in BOTTLENECKS:
            for index in range(repeats):
                stride = first_stride if index == 0 else 1
                blocks.append(Bottleneck(channels, scaled(base, width), expansion, stride))
                channels = scaled(base, width)
        self.bottlenecks = nn.Sequential(*blocks)
        self.last = ConvBlock(channels, last)
        self.global_depthwise = ConvBlock(last, last, grid, groups=last, activation=None)
        self.embedding = ConvBlock(last, embedding, activation=None)
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        x = self.bottlenecks(self.depthwise(self.stem(x)))
        return self.embedding(self.global_depthwise(self.last(x))).flatten(1)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.25, mode="fan_out")


@register("mobilefacenet", family="mobilefacenet", embedding=128)
def mobilefacenet(embedding: int, input_size: Size, width: float) -> nn.Module:
    """The primary MobileFaceNet of the paper."""
    return MobileFaceNet(embedding, input_size, width)
