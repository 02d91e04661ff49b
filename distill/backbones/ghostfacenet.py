"""GhostFaceNets: Alansari et al., GhostFaceNets, IEEE Access, 2023.

GhostNet (Han et al., 2020) and GhostNetV2 (Tang et al., 2022) with 1.3 times their channels, PReLU
instead of ReLU, and a head of global depthwise convolution and embedding. The layers are those of
the authors' code (HamadYA/GhostFaceNets, with GhostNetV2 from keras_cv_attention_models). "1.3-1"
and "1.3-2" in their names are the width and the stride of the stem.

Keras pads strided convolutions more at the bottom and right; here padding is symmetric. In some
networks the code has a bias before the last normalisation, which has no effect and is omitted.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from teachers.layers import Activation, Concatenate, ConvBlock, PReLU, initialise_convolutions
from teachers.networks import Figure, Paper, Size, final_grid, register
from teachers.preprocessing import InputSizeError

SOURCE = "Alansari et al., GhostFaceNets, 2023"
PUBLISHED_WIDTH = 1.3
SMALLEST_SIDE = 32

BOTTLENECKS = (
    # kernel, hidden channels, channels, squeeze and excite, stride
    (3, 16, 16, False, 1),
    (3, 48, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
)
BOTTLENECKS_WITHOUT_ATTENTION = 2
"""GhostNetV2 has attention from the third bottleneck on."""


@dataclass(frozen=True)
class GhostLayout:
    """The parameters of a GhostFaceNet.

    ``last`` is the number of channels of the last convolution before the head; in V1 also that of
    the last bottleneck's hidden layer. ``slope`` is that of the gate in squeeze-and-excitation:
    Keras and PyTorch define the hard sigmoid differently.
    """

    stem_stride: int
    attention: bool
    last: int
    slope: float


V1 = GhostLayout(stem_stride=1, attention=False, last=512, slope=0.2)
V1_STRIDE_2 = GhostLayout(stem_stride=2, attention=False, last=512, slope=0.2)
V2 = GhostLayout(stem_stride=1, attention=True, last=960, slope=1 / 6)


class HardSqueezeExcite(nn.Module):
    """Channels scaled by a piecewise linear gate of their means: ``clip(slope x + 1/2)``.

    The hidden layer has a quarter of the channels, rounded to a multiple of 4.
    """

    def __init__(self, channels: int, slope: float) -> None:
        super().__init__()
        hidden = divisible(channels / 4)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.activation = PReLU(hidden)
        self.excite = nn.Conv2d(hidden, channels, 1)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        gate = self.excite(self.activation(self.squeeze(means)))
        return x * (self.slope * gate + 0.5).clamp(0.0, 1.0)


class DecoupledAttention(nn.Module):
    """GhostNetV2's "DFC": a gate with attention along rows and columns, at half the resolution.

    [B, C, H, W] to a gate [B, channels, H, W] between 0 and 1.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AvgPool2d(2),
            ConvBlock(channels_in, channels, activation=None),
            _depthwise(channels, (1, 5)),
            _depthwise(channels, (5, 1)),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.layers(x), size=x.shape[2:], mode="nearest-exact")


class GhostModule(nn.Module):
    """Half of the channels from a 1x1 convolution, the other half from these by a depthwise 3x3."""

    def __init__(
        self, channels_in: int, channels: int, activation: Activation | None, attention: bool
    ) -> None:
        super().__init__()
        half = channels // 2
        self.primary = ConvBlock(channels_in, half, activation=activation)
        self.cheap = ConvBlock(half, half, 3, 1, 1, groups=half, activation=activation)
        self.concatenate = Concatenate()
        self.attention = DecoupledAttention(channels_in, channels) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(x)
        y = self.concatenate(primary, self.cheap(primary))
        return y if self.attention is None else y * self.attention(x)


class GhostBottleneck(nn.Module):
    """Ghost module, depthwise convolution if strided, squeeze and excite, linear ghost module.

    The shortcut is the identity, or depthwise and 1x1 convolutions if the shape changes.
    """

    def __init__(
        self,
        channels_in: int,
        hidden: int,
        channels: int,
        kernel: int,
        stride: int,
        excite_slope: float | None,
        attention: bool,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [GhostModule(channels_in, hidden, PReLU, attention)]
        if stride > 1:
            layers.append(_depthwise(hidden, (kernel, kernel), stride))
        if excite_slope is not None:
            layers.append(HardSqueezeExcite(hidden, excite_slope))
        layers.append(GhostModule(hidden, channels, activation=None, attention=False))
        self.layers = nn.Sequential(*layers)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                _depthwise(channels_in, (kernel, kernel), stride),
                ConvBlock(channels_in, channels, activation=None),
            )

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.layers(x)


class GhostFaceNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16, at least 32.

    With a stem of stride 2 the total stride is 32, and the last halving rounds up: 7x7 to 4x4.
    """

    after_global = ("embedding",)

    def __init__(
        self,
        layout: GhostLayout,
        embedding: int = 512,
        input_size: Size = (112, 112),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        grid = _final_grid(layout, input_size)
        width = PUBLISHED_WIDTH * width
        channels = divisible(16 * width)
        self.stem = ConvBlock(3, channels, 3, layout.stem_stride, 1)
        blocks = []
        for index, (kernel, hidden, base, excite, stride) in enumerate(BOTTLENECKS):
            is_last = index == len(BOTTLENECKS) - 1
            blocks.append(
                GhostBottleneck(
                    channels,
                    divisible((layout.last if is_last else hidden) * width),
                    made := divisible(base * width),
                    kernel,
                    stride,
                    layout.slope if excite else None,
                    layout.attention and index >= BOTTLENECKS_WITHOUT_ATTENTION,
                )
            )
            channels = made
        self.bottlenecks = nn.Sequential(*blocks)
        last = divisible(layout.last * width)
        self.last = ConvBlock(channels, last)
        self.global_depthwise = ConvBlock(last, last, grid, groups=last, activation=None)
        self.embedding = ConvBlock(last, embedding, activation=None)
        initialise_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.bottlenecks(self.stem(x)))
        return self.embedding(self.global_depthwise(x)).flatten(1)


def divisible(channels: float) -> int:
    """The nearest multiple of 4, at least 4 and at least nine tenths of ``channels``."""
    rounded = max(4, int(channels + 2) // 4 * 4)
    return rounded if rounded >= 0.9 * channels else rounded + 4


def _depthwise(channels: int, kernel: Size, stride: int = 1) -> ConvBlock:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return ConvBlock(channels, channels, kernel, stride, padding, channels, activation=None)


def _final_grid(layout: GhostLayout, input_size: Size) -> Size:
    height, width = final_grid("ghostfacenet", input_size, stride=16)
    if min(input_size) < SMALLEST_SIDE:
        raise InputSizeError(
            f"ghostfacenet: input size {input_size[0]}x{input_size[1]} is too small; "
            f"both sides must be at least {SMALLEST_SIDE}"
        )
    return -(-height // layout.stem_stride), -(-width // layout.stem_stride)


def _register(name: str, layout: GhostLayout, paper: Paper) -> None:
    @register(name, family="ghostfacenet", embedding=512, paper=paper)
    def build(embedding: int, input_size: Size, width: float) -> nn.Module:
        return GhostFaceNet(layout, embedding, input_size, width)


_COUNTING = "Its FLOPs are multiply-additions of all layers, activations and gates too."
_register(
    "ghostfacenetv1",
    V1,
    Paper(
        f"{SOURCE}, GhostFaceNetV1-1.3-1",
        {"params": Figure("4.1M", 4.1e6), "madds": Figure("216M", 216e6)},
        f"{_COUNTING} Its parameters include the running statistics.",
    ),
)
_register(
    "ghostfacenetv1_s2",
    V1_STRIDE_2,
    Paper(
        f"{SOURCE}, GhostFaceNetV1-1.3-2",
        {"madds": Figure("60M", 60e6)},
        _COUNTING,
    ),
)
_register(
    "ghostfacenetv2",
    V2,
    Paper(
        f"{SOURCE}, GhostFaceNetV2-1.3-1; parameters from Flops.ipynb of its code",
        {
            "params": Figure("6,795,720", 6_795_720, within=0.0),
            "madds": Figure("272,105,108", 272_105_108),
        },
        _COUNTING,
    ),
)
