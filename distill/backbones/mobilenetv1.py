"""MobileNetV1 (Howard et al., 2017, Table 1) as a baseline of MobileFaceNets.

MobileFaceNets, section IV.A, sets the first stride to 1. The classifier is removed and the globally
pooled features are the embedding. The layers have the printed 3.2 M parameters; the printed 574 M
MAdds are the 575 M of MobileNetV2's paper without the classifier (568 M here).
"""

from torch import Tensor, nn

from distill.backbones.heads import embedding_layer
from teachers.layers import ConvBlock, initialise_convolutions, relu
from teachers.networks import Figure, Paper, Size, final_grid, register, scaled

SEPARABLE = (
    # channels, stride
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


class MobileNetV1(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16."""

    after_global = ("embedding",)

    def __init__(self, embedding: int, input_size: Size, width: float) -> None:
        super().__init__()
        final_grid("mobilenetv1", input_size, stride=16)
        channels = scaled(32, width)
        blocks: list[nn.Module] = [ConvBlock(3, channels, 3, 1, 1, activation=relu)]
        for base, stride in SEPARABLE:
            blocks.append(
                ConvBlock(channels, channels, 3, stride, 1, groups=channels, activation=relu)
            )
            blocks.append(ConvBlock(channels, scaled(base, width), activation=relu))
            channels = scaled(base, width)
        self.features = nn.Sequential(*blocks)
        self.embedding = embedding_layer(channels, embedding)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(self.features(x).mean((2, 3)))


@register(
    "mobilenetv1",
    family="mobilenetv1",
    embedding=1024,
    paper=Paper(
        "Chen et al., MobileFaceNets, 2018, Table 2",
        {"params": Figure("3.2M", 3.2e6), "madds": Figure("574M", 574e6)},
        note="The pooled features are the embedding; another length adds a layer.",
    ),
    status="inferred",
)
def mobilenetv1(embedding: int, input_size: Size, width: float) -> nn.Module:
    """MobileNetV1 at width 1.0 with a first stride of 1."""
    return MobileNetV1(embedding, input_size, width)
