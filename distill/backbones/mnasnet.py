"""MNAS-1.25 of Bitmain: insightface's ``fmnasnet`` with 1.25 times its channels.

Source of the layers: arcface_mxnet, ``symbol/fmnasnet.py``: MnasNet (Tan et al., 2019) without
squeeze-and-excitation, with a stem of stride 1. There, only bottlenecks of stride 2 have 5x5
kernels; the others of a stage have 3x3, unlike in the MnasNet paper. Here each PReLU has a slope
per channel, there one for all channels: 21 thousand more parameters, 0.08 MiB.
"""

from torch import Tensor, nn

from distill.backbones.bottleneck import Bottleneck
from distill.backbones.heads import GlobalDepthwiseHead
from teachers.layers import ConvBlock, initialise_convolutions
from teachers.networks import Figure, Paper, Size, final_grid, register, scaled

STEM, SEPARABLE, LAST = 40, 20, 1280
BOTTLENECKS = (
    # expansion, channels, repeats, stride, kernel
    (3, 30, 1, 2, 3),
    (3, 30, 2, 1, 3),
    (3, 50, 1, 2, 5),
    (3, 50, 2, 1, 3),
    (6, 100, 1, 2, 5),
    (6, 100, 2, 1, 3),
    (6, 120, 2, 1, 3),
    (6, 240, 1, 2, 5),
    (6, 240, 3, 1, 3),
    (6, 400, 1, 1, 3),
)


class MnasNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16."""

    after_global = ("head.fc", "head.norm")

    def __init__(self, embedding: int, input_size: Size, width: float) -> None:
        super().__init__()
        grid = final_grid("mnasnet_125", input_size, stride=16)
        stem, channels, last = (scaled(base, width) for base in (STEM, SEPARABLE, LAST))
        blocks: list[nn.Module] = [
            ConvBlock(3, stem, 3, 1, 1),
            ConvBlock(stem, stem, 3, 1, 1, groups=stem),
            ConvBlock(stem, channels),
        ]
        for expansion, base, repeats, stride, kernel in BOTTLENECKS:
            for _ in range(repeats):
                channels_out = scaled(base, width)
                blocks.append(Bottleneck(channels, channels_out, expansion, stride, kernel))
                channels = channels_out
        blocks.append(ConvBlock(channels, last))
        self.features = nn.Sequential(*blocks)
        self.head = GlobalDepthwiseHead(last, embedding, grid)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@register(
    "mnasnet_125",
    family="mnasnet",
    embedding=256,
    paper=Paper(
        "Ma, Effective methods for lightweight image-based and video-based face recognition, "
        "2019, Table 2",
        {
            "size_mib": Figure("19MB", 19.0, within=0.005),
            "lfr_flops": Figure("870M", 870 * 2**20, within=0.005),
        },
        note="The printed FLOPs count in 2^20. That the layers are insightface's is inferred.",
    ),
    status="inferred",
)
def mnasnet_125(embedding: int, input_size: Size, width: float) -> nn.Module:
    """insightface's fmnasnet with all channels times 1.25."""
    return MnasNet(embedding, input_size, width)
