"""Bitmain's octave networks: Ma, Effective Methods for Lightweight Face Recognition, 2019.

Sections 3.1 and 4.1 combine octave convolution with ResNets and with MobileFaceNet. They print size
and FLOPs (Table 2, in units of 2^20), but neither alpha nor widths, groups and most depths. These
are chosen here to match both figures within 2.5 %:

- alpha is 3/8 in the ResNets: with the octave paper's preferred 1/4, no grouping of the bottlenecks
  at the printed depths (3, 8, 36, 3) comes within 5 %. It is 1/2 in MobileFaceNets.
- The first layers are plain. In the last stage alpha is 0, as in the octave paper's networks,
  because 7x7 cannot be halved. Input sizes therefore only need to be multiples of 16.
- Oct-ResNet-Neck keeps the original channels (64 to 512), halves them in its bottlenecks and has 8
  groups; Oct-ResNet-A and -B have basic blocks with half the channels.
- Oct-MobileFaceNet starts from insightface's y2. Given 19MB and 15MB for -A and -B, A is assumed to
  be the wider one (x 13/8) and B the deeper one (x 2.25 to 2.5); the first stage keeps its 64
  channels.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from distill.backbones.octave import (
    DepthwiseOctaveConv,
    Frequencies,
    OctaveConv,
    OctaveNorm,
    add,
)
from teachers.layers import ConvBlock, PReLU, initialise_convolutions, relu
from teachers.networks import Figure, Paper, Size, final_grid, register, scaled

STRIDE = 16
RESNET_ALPHA = 0.375
MOBILE_ALPHA = 0.5
GROUPS = 8


def _grouped_bottleneck(
    channels_in: int, channels: int, alpha_in: float, alpha: float, stride: int
) -> nn.Sequential:
    hidden = channels // 2
    return nn.Sequential(
        OctaveConv(channels_in, hidden, alpha_in, alpha_in),
        OctaveNorm(hidden, alpha_in, relu),
        OctaveConv(hidden, hidden, alpha_in, alpha, 3, stride, GROUPS),
        OctaveNorm(hidden, alpha, relu),
        OctaveConv(hidden, channels, alpha, alpha),
        OctaveNorm(channels, alpha, None),
    )


def _basic(
    channels_in: int, channels: int, alpha_in: float, alpha: float, stride: int
) -> nn.Sequential:
    return nn.Sequential(
        OctaveConv(channels_in, channels, alpha_in, alpha, 3, stride),
        OctaveNorm(channels, alpha, relu),
        OctaveConv(channels, channels, alpha, alpha, 3),
        OctaveNorm(channels, alpha, None),
    )


class ResidualBlock(nn.Module):
    """A ResNet block (He et al., 2016): bottleneck or basic, plus the shortcut, then ReLU."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        alpha_in: float,
        alpha: float,
        stride: int,
        bottleneck: bool,
    ) -> None:
        super().__init__()
        layers = _grouped_bottleneck if bottleneck else _basic
        self.layers = layers(channels_in, channels, alpha_in, alpha, stride)
        self.shortcut: nn.Module | None = None
        if stride != 1 or channels_in != channels or alpha_in != alpha:
            self.shortcut = nn.Sequential(
                OctaveConv(channels_in, channels, alpha_in, alpha, 1, stride),
                OctaveNorm(channels, alpha, None),
            )

    def forward(self, x: Frequencies) -> Frequencies:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        high, low = add(self.layers(x), shortcut)
        return high.relu(), None if low is None else low.relu()


@dataclass(frozen=True)
class ResNetLayout:
    """Channels and blocks of the four stages, and the kind of block."""

    channels: tuple[int, int, int, int]
    repeats: tuple[int, int, int, int]
    bottleneck: bool = False


class OctResNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16."""

    after_global = ("embedding",)

    def __init__(
        self,
        layout: ResNetLayout,
        embedding: int,
        input_size: Size = (112, 112),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        grid = final_grid("octave resnet", input_size, STRIDE)
        channels, alpha_in = scaled(layout.channels[0], width), 0.0
        self.stem = ConvBlock(3, channels, 3, 2, 1, activation=relu)
        blocks: list[nn.Module] = []
        for stage, (base, repeats) in enumerate(zip(layout.channels, layout.repeats, strict=True)):
            alpha = 0.0 if stage == 3 else RESNET_ALPHA
            for index in range(repeats):
                stride = 2 if stage > 0 and index == 0 else 1
                new = scaled(base, width)
                blocks.append(
                    ResidualBlock(channels, new, alpha_in, alpha, stride, layout.bottleneck)
                )
                channels, alpha_in = new, alpha
        self.blocks = nn.Sequential(*blocks)
        self.global_depthwise = ConvBlock(
            channels, channels, grid, groups=channels, activation=None
        )
        self.embedding = ConvBlock(channels, embedding, activation=None)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        high, _ = self.blocks((self.stem(x), None))
        return self.embedding(self.global_depthwise(high)).flatten(1)


class OctBottleneck(nn.Module):
    """MobileFaceNet's bottleneck with octave convolutions; residual if the shape is preserved."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        expansion: int,
        alpha_in: float,
        alpha: float,
        stride: int,
    ) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.layers = nn.Sequential(
            OctaveConv(channels_in, hidden, alpha_in, alpha),
            OctaveNorm(hidden, alpha, PReLU),
            DepthwiseOctaveConv(hidden, alpha, stride),
            OctaveNorm(hidden, alpha, PReLU),
            OctaveConv(hidden, channels, alpha, alpha),
            OctaveNorm(channels, alpha, None),
        )
        self.residual = stride == 1 and channels_in == channels and alpha_in == alpha

    def forward(self, x: Frequencies) -> Frequencies:
        y = self.layers(x)
        return add(x, y) if self.residual else y


@dataclass(frozen=True)
class MobileLayout:
    """insightface's y2 with other numbers of channels or residual blocks.

    ``channels`` is 64 in y2, ``repeats`` are the residual blocks at the four resolutions, ``last``
    is the number of channels before the global operator.
    """

    channels: int
    repeats: tuple[int, int, int, int]
    last: int


def _rows(layout: MobileLayout) -> tuple[tuple[int, int, int, int, float], ...]:
    channels, alpha = layout.channels, MOBILE_ALPHA
    return (
        # expansion, channels, repeats, stride of the first, alpha
        (1, 64, layout.repeats[0], 1, alpha),
        (2, channels, 1, 2, alpha),
        (2, channels, layout.repeats[1], 1, alpha),
        (4, 2 * channels, 1, 2, alpha),
        (2, 2 * channels, layout.repeats[2], 1, alpha),
        (4, 2 * channels, 1, 2, 0.0),
        (2, 2 * channels, layout.repeats[3], 1, 0.0),
    )


class OctMobileFaceNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16."""

    after_global = ("embedding",)

    def __init__(
        self,
        layout: MobileLayout,
        embedding: int,
        input_size: Size = (112, 112),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        grid = final_grid("octave mobilefacenet", input_size, STRIDE)
        channels, last, alpha_in = scaled(64, width), scaled(layout.last, width), 0.0
        self.stem = ConvBlock(3, channels, 3, 2, 1)
        blocks: list[nn.Module] = []
        for expansion, base, repeats, first_stride, alpha in _rows(layout):
            for index in range(repeats):
                stride = first_stride if index == 0 else 1
                new = scaled(base, width)
                blocks.append(OctBottleneck(channels, new, expansion, alpha_in, alpha, stride))
                channels, alpha_in = new, alpha
        self.blocks = nn.Sequential(*blocks)
        self.last = ConvBlock(channels, last)
        self.global_depthwise = ConvBlock(last, last, grid, groups=last, activation=None)
        self.embedding = ConvBlock(last, embedding, activation=None)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        high, _ = self.blocks((self.stem(x), None))
        return self.embedding(self.global_depthwise(self.last(high))).flatten(1)


def _paper(megaflops: int, mebibytes: int) -> Paper:
    return Paper(
        "Ma, Effective Methods for Lightweight Face Recognition, 2019, Table 2",
        {
            "lfr_flops": Figure(f"{megaflops}M", megaflops * 2**20, within=0.025),
            "size_mib": Figure(f"{mebibytes}MB", mebibytes, within=0.025),
        },
        note="Alpha, widths, groups and most depths are chosen to meet the printed figures.",
    )


@register(
    "oct_resnet_neck", family="octave", embedding=256, paper=_paper(963, 17), status="inferred"
)
def oct_resnet_neck(embedding: int, input_size: Size, width: float) -> nn.Module:
    """Grouped bottlenecks, at the published depths (3, 8, 36, 3)."""
    layout = ResNetLayout((64, 128, 256, 512), (3, 8, 36, 3), bottleneck=True)
    return OctResNet(layout, embedding, input_size, width)


@register("oct_resnet_a", family="octave", embedding=192, paper=_paper(856, 19), status="inferred")
def oct_resnet_a(embedding: int, input_size: Size, width: float) -> nn.Module:
    """Basic blocks without bottleneck."""
    return OctResNet(ResNetLayout((32, 64, 128, 256), (2, 2, 5, 3)), embedding, input_size, width)


@register("oct_resnet_b", family="octave", embedding=192, paper=_paper(976, 20), status="inferred")
def oct_resnet_b(embedding: int, input_size: Size, width: float) -> nn.Module:
    """A deeper Oct-ResNet-A."""
    return OctResNet(ResNetLayout((32, 64, 128, 256), (3, 2, 6, 3)), embedding, input_size, width)


@register(
    "oct_mobilefacenet_a", family="octave", embedding=256, paper=_paper(963, 19), status="inferred"
)
def oct_mobilefacenet_a(embedding: int, input_size: Size, width: float) -> nn.Module:
    """A wider y2 (insightface) with octave convolutions."""
    return OctMobileFaceNet(MobileLayout(104, (2, 8, 16, 4), 832), embedding, input_size, width)


@register(
    "oct_mobilefacenet_b", family="octave", embedding=256, paper=_paper(897, 15), status="inferred"
)
def oct_mobilefacenet_b(embedding: int, input_size: Size, width: float) -> nn.Module:
    """A deeper y2 (insightface) with octave convolutions."""
    return OctMobileFaceNet(MobileLayout(64, (5, 20, 36, 9), 512), embedding, input_size, width)
