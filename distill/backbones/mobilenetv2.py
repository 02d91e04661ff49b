"""MobileNetV2 (Sandler et al., 2018, Table 2) as a baseline of MobileFaceNets.

MobileFaceNets, sections III.A and III.B, sets the first stride to 1 and uses the output of global
average pooling, or of a global depthwise convolution instead, as the embedding. The printed 299 M
MAdds and 2.1 M parameters are those of MobileNetV2's paper (300 M, 3.4 M) without the classifier
(1.28 M); the layers themselves have 2.2 M.
"""

from torch import Tensor, nn

from distill.backbones.bottleneck import Bottleneck, unrolled
from distill.backbones.heads import embedding_layer
from teachers.layers import ConvBlock, initialise_convolutions
from teachers.networks import Figure, Paper, Size, final_grid, register, scaled

BOTTLENECKS = (
    # expansion, channels, repeats, stride of the first
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
PAPER = Paper(
    "Chen et al., MobileFaceNets, 2018, Table 2",
    {"params": Figure("2.1M", 2.1e6, within=None), "madds": Figure("299M", 299e6)},
    note="The layers have 2.2 M parameters; the printed number is what MobileNetV2's paper prints, "
    "less the classifier. The global features are the embedding; another length adds a layer.",
)


def relu6(channels: int) -> nn.Module:
    """ReLU6 as an `Activation`."""
    return nn.ReLU6()


class MobileNetV2(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16.

    ``global_depthwise`` replaces the pooling with a linear global depthwise convolution.
    """

    after_global = ("embedding",)

    def __init__(
        self, embedding: int, input_size: Size, width: float, global_depthwise: bool = False
    ) -> None:
        super().__init__()
        grid = final_grid("mobilenetv2", input_size, stride=16)
        stem, channels, last = scaled(32, width), scaled(16, width), scaled(1280, width)
        blocks: list[nn.Module] = [
            ConvBlock(3, stem, 3, 1, 1, activation=relu6),
            # The first bottleneck has expansion 1 and therefore no 1x1 convolution before it.
            ConvBlock(stem, stem, 3, 1, 1, groups=stem, activation=relu6),
            ConvBlock(stem, channels, activation=None),
        ]
        for expansion, base, stride in unrolled(BOTTLENECKS):
            blocks.append(
                Bottleneck(channels, scaled(base, width), expansion, stride, activation=relu6)
            )
            channels = scaled(base, width)
        blocks.append(ConvBlock(channels, last, activation=relu6))
        self.features = nn.Sequential(*blocks)
        self.pooling: nn.Module = nn.AdaptiveAvgPool2d(1)
        if global_depthwise:
            self.pooling = ConvBlock(last, last, grid, groups=last, activation=None)
        self.embedding = embedding_layer(last, embedding)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(self.pooling(self.features(x)).flatten(1))


@register("mobilenetv2", family="mobilenetv2", embedding=1280, paper=PAPER, status="inferred")
def mobilenetv2(embedding: int, input_size: Size, width: float) -> nn.Module:
    """MobileNetV2 at width 1.0 with a first stride of 1."""
    return MobileNetV2(embedding, input_size, width)


@register(
    "mobilenetv2_gdconv", family="mobilenetv2", embedding=1280, paper=PAPER, status="inferred"
)
def mobilenetv2_gdconv(embedding: int, input_size: Size, width: float) -> nn.Module:
    """MobileNetV2-GDConv: a linear global depthwise convolution instead of the pooling."""
    return MobileNetV2(embedding, input_size, width, global_depthwise=True)
