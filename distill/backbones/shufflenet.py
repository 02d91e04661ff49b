"""ShuffleNet 1x with 3 groups (Zhang et al., 2017, Table 1) as a baseline of MobileFaceNets.

MobileFaceNets, section IV.A, sets the first stride to 1. The classifier is removed and the globally
pooled features are the embedding. The printed 139 M MAdds are the 140 M of ShuffleNet's paper
without the classifier; the layers have 0.90 M parameters, not the printed 1.1 M.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.backbones.heads import embedding_layer
from teachers.layers import ConvBlock, initialise_convolutions, relu
from teachers.networks import Figure, Paper, Size, final_grid, register

GROUPS = 3
STAGES = (
    # channels, units; the first unit of a stage has stride 2
    (240, 4),
    (480, 8),
    (960, 4),
)
REDUCTION = 4
"""A unit's bottleneck has a quarter of its channels."""


class ShuffleUnit(nn.Module):
    """Grouped 1x1, channel shuffle, depthwise 3x3, grouped 1x1; Figure 2 (b) and (c) of the paper.

    At stride 1 the input is added; at stride 2 it is average pooled 3x3 and concatenated first.
    """

    def __init__(self, channels_in: int, channels: int, stride: int, groups_first: int) -> None:
        super().__init__()
        self.stride = stride
        hidden = channels // REDUCTION
        branch = channels - channels_in if stride == 2 else channels
        self.compress = ConvBlock(channels_in, hidden, groups=groups_first, activation=relu)
        self.depthwise = ConvBlock(hidden, hidden, 3, stride, 1, groups=hidden, activation=None)
        self.expand = ConvBlock(hidden, branch, groups=GROUPS, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(self.depthwise(shuffle(self.compress(x), GROUPS)))
        if self.stride == 1:
            return F.relu(x + y)
        return F.relu(torch.cat((F.avg_pool2d(x, 3, 2, 1), y), 1))


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups: [B, C, H, W], channel g C/G + i to i G + g."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16."""

    after_global = ("embedding",)

    def __init__(self, embedding: int, input_size: Size, width: float) -> None:
        super().__init__()
        final_grid("shufflenet", input_size, stride=16)
        channels = _scaled(24, width)
        self.stem = ConvBlock(3, channels, 3, 1, 1, activation=relu)
        self.pool = nn.MaxPool2d(3, 2, 1)
        units = []
        for stage, (base, repeats) in enumerate(STAGES):
            for index in range(repeats):
                first = index == 0
                # As in the paper: no grouping for the few channels of the first layer.
                groups = 1 if first and stage == 0 else GROUPS
                stride = 2 if first else 1
                units.append(ShuffleUnit(channels, _scaled(base, width), stride, groups))
                channels = _scaled(base, width)
        self.units = nn.Sequential(*units)
        self.embedding = embedding_layer(channels, embedding)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(self.units(self.pool(self.stem(x))).mean((2, 3)))


def _scaled(channels: int, width: float) -> int:
    """``channels`` times ``width``, rounded to whole channels per group of a bottleneck."""
    step = GROUPS * REDUCTION
    return max(step, int(channels * width / step + 0.5) * step)


@register(
    "shufflenet",
    family="shufflenet",
    embedding=960,
    paper=Paper(
        "Chen et al., MobileFaceNets, 2018, Table 2",
        {"params": Figure("1.1M", 1.1e6, within=None), "madds": Figure("139M", 139e6)},
        note="The pooled features are the embedding; another length adds a layer.",
    ),
    status="inferred",
)
def shufflenet(embedding: int, input_size: Size, width: float) -> nn.Module:
    """ShuffleNet 1x, 3 groups, with a first stride of 1."""
    return ShuffleNet(embedding, input_size, width)
