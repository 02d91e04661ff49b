"""VarGFaceNet: Yan et al., VarGFaceNet, 2019, Table 1 and Fig. 1, and the VarGNet it is based on.

"Variable group" convolutions have 8 channels per group, so the number of groups varies. Details
that the paper leaves open follow the authors' code (zma-c-137/VarGFaceNet): batch normalisation
with epsilon 2e-5 after every layer, squeeze-and-excitation with reduction 4 in the normal blocks
and in the head but not in downsampling blocks, and a trainable scale in the last normalisation.
"""

from functools import partial

from torch import Tensor, nn

from teachers.layers import (
    Activation,
    ConvBlock,
    PReLU,
    SqueezeExcite,
    initialise_convolutions,
    relu,
)
from teachers.networks import Figure, Paper, Size, final_grid, register, scaled

GROUP_CHANNELS = 8
HEAD_CHANNELS = 40
STAGES = (
    # channels, blocks; the first of a stage halves the map
    (80, 3),
    (160, 7),
    (320, 4),
)
STRIDE = 16
BATCH_NORM_EPSILON = 2e-5
NormalisedConv = partial(ConvBlock, epsilon=BATCH_NORM_EPSILON)


class SeparableConv(nn.Sequential):
    """Variable group 3x3 convolution to ``expansion`` times the channels, then 1x1."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        expansion: int,
        stride: int,
        activation: Activation,
        linear: bool = True,
    ) -> None:
        hidden = channels_in * expansion
        groups = channels_in // GROUP_CHANNELS
        super().__init__(
            NormalisedConv(channels_in, hidden, 3, stride, 1, groups=groups, activation=activation),
            NormalisedConv(hidden, channels, activation=None if linear else activation),
        )


class NormalBlock(nn.Module):
    """Fig. 1 (a): two separable convolutions and attention; with a stride, the head's block (c)."""

    def __init__(
        self, channels: int, activation: Activation, attention: bool, expansion: int, stride: int
    ) -> None:
        super().__init__()
        conv = partial(SeparableConv, channels, channels, expansion, activation=activation)
        self.first = conv(stride=stride, linear=False)
        self.second = conv(stride=1)
        self.attention = SqueezeExcite(channels, 4, PReLU) if attention else nn.Identity()
        self.shortcut = nn.Identity() if stride == 1 else conv(stride=stride)
        self.activation = activation(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.second(self.first(x)))
        return self.activation(y + self.shortcut(x))


class DownsamplingBlock(nn.Module):
    """Fig. 1 (b): the sum of two parallel branches that halve the map; no attention."""

    def __init__(self, channels_in: int, channels: int, activation: Activation) -> None:
        super().__init__()
        halve = partial(SeparableConv, channels_in, channels, 2, 2, activation)
        self.left, self.right, self.shortcut = halve(), halve(), halve()
        self.merged_activation = activation(channels)
        self.second = SeparableConv(channels, channels, 2, 1, activation)
        self.activation = activation(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.merged_activation(self.left(x) + self.right(x))
        return self.activation(self.second(y) + self.shortcut(x))


class Body(nn.Sequential):
    """Everything before the embedding setting: [B, 3, H, W] to [B, 320, H / 16, W / 16]."""

    def __init__(self, width: float, activation: Activation, attention: bool) -> None:
        channels = scaled(HEAD_CHANNELS, width)
        layers: list[nn.Module] = [
            NormalisedConv(3, channels, 3, 1, 1, activation=activation),
            NormalBlock(channels, activation, attention, expansion=1, stride=2),
        ]
        for base, blocks in STAGES:
            layers.append(DownsamplingBlock(channels, scaled(base, width), activation))
            channels = scaled(base, width)
            layers += [
                NormalBlock(channels, activation, attention, expansion=2, stride=1)
                for _ in range(blocks - 1)
            ]
        super().__init__(*layers)
        self.channels = channels


class VarGFaceNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16."""

    after_global = ("embedding",)

    def __init__(
        self,
        embedding: int = 512,
        input_size: Size = (112, 112),
        width: float = 1.0,
        activation: Activation = PReLU,
        attention: bool = True,
    ) -> None:
        super().__init__()
        grid = final_grid("vargfacenet", input_size, STRIDE)
        last = scaled(1024, width)
        self.body = Body(width, activation, attention)
        self.last = NormalisedConv(self.body.channels, last, activation=activation)
        self.global_group = NormalisedConv(
            last, last, grid, groups=last // GROUP_CHANNELS, activation=None
        )
        self.embedding = nn.Sequential(
            NormalisedConv(last, last // 2, activation=activation),
            nn.Flatten(),
            nn.Linear(last // 2, embedding),
            nn.BatchNorm1d(embedding, eps=BATCH_NORM_EPSILON),
        )
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(self.global_group(self.last(self.body(x))))


class VarGNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16.

    VarGNet 1.25x as in the comparison of VarGFaceNet's section 3.3: ReLU, no attention, average
    pooling before the fully connected layer, but VarGFaceNet's head. The last convolution has 1280
    channels, as in VarGNet itself (Zhang et al., 2019), which gives the printed FLOPs.
    """

    after_global = ("embedding",)

    def __init__(
        self, embedding: int = 512, input_size: Size = (112, 112), width: float = 1.0
    ) -> None:
        super().__init__()
        final_grid("vargnet", input_size, STRIDE)
        last = scaled(1280, width)
        self.body = Body(width, relu, attention=False)
        self.last = NormalisedConv(self.body.channels, last, activation=relu)
        self.embedding = nn.Sequential(
            nn.Linear(last, embedding), nn.BatchNorm1d(embedding, eps=BATCH_NORM_EPSILON)
        )
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(self.last(self.body(x)).mean((2, 3)))


SOURCE = "Yan et al., VarGFaceNet, 2019"
FIGURES = {
    "params": Figure("5M", 5e6, within=0.04),
    "lfr_flops": Figure("1022M", 1022e6, within=0.001),
    "size_mib": Figure("20M", 20.0, within=0.06),
}


@register(
    "vargfacenet",
    family="vargfacenet",
    embedding=512,
    paper=Paper(f"{SOURCE}, Table 1", FIGURES),
)
def vargfacenet(embedding: int, input_size: Size, width: float) -> nn.Module:
    """VarGFaceNet with squeeze-and-excitation, as its authors' code builds it."""
    return VarGFaceNet(embedding, input_size, width)


@register(
    "vargfacenet_no_se",
    family="vargfacenet",
    embedding=512,
    paper=Paper(
        f"{SOURCE}, Table 1",
        FIGURES,
        note="insightface's configuration, which leaves squeeze-and-excitation off; "
        "the printed figures fit both.",
    ),
)
def vargfacenet_no_se(embedding: int, input_size: Size, width: float) -> nn.Module:
    """VarGFaceNet without squeeze-and-excitation."""
    return VarGFaceNet(embedding, input_size, width, attention=False)


@register(
    "vargnet",
    family="vargfacenet",
    embedding=512,
    paper=Paper(
        f"{SOURCE}, Table 4",
        {"lfr_flops": Figure("1029M", 1029e6, within=0.001)},
        note="The 1280 channels before the average pooling are VarGNet's own and give the "
        "printed FLOPs.",
    ),
    status="inferred",
)
def vargnet(embedding: int, input_size: Size, width: float) -> nn.Module:
    """VarGNet 1.25x with VarGFaceNet's head, the student of Table 4."""
    return VarGNet(embedding, input_size, width)


@register(
    "vargnet_embedding",
    family="vargfacenet",
    embedding=512,
    paper=Paper(
        f"{SOURCE}, section 2",
        note="VarGNet's blocks (ReLU, no squeeze-and-excitation) with both of VarGFaceNet's "
        "settings, a network that the paper describes but does not measure.",
    ),
    status="inferred",
)
def vargnet_embedding(embedding: int, input_size: Size, width: float) -> nn.Module:
    """VarGNet with VarGFaceNet's head and embedding setting."""
    return VarGFaceNet(embedding, input_size, width, activation=relu, attention=False)
