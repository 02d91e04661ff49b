"""insightface's own ``mobilefacenet``, which differs from the network of the paper.

Source: arcface_torch, ``backbones/mobilefacenet.py``, ``get_mbf``. Up to the last 1x1 convolution
it has twice the paper's channels, but the same hidden channels in the bottlenecks. The second layer
is a grouped convolution with two channels per group instead of a depthwise one, and the last layer
is fully connected. Module names are insightface's, so its checkpoints load by name.
"""

from torch import Tensor, nn

from teachers.layers import ConvBlock
from teachers.networks import Figure, Paper, Size, final_grid, register, scaled

STAGES = (
    # channels, hidden channels of the first bottleneck, of the others, number of others
    (128, 128, 128, 4),
    (256, 256, 256, 6),
    (256, 512, 256, 2),
)


class Chain(nn.Module):
    """A sequence of modules under the name ``layers``, optionally with a residual connection."""

    def __init__(self, *modules: nn.Module, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*modules)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class InsightfaceMobileFaceNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16."""

    after_global = ("features.layers.2", "features.layers.3")

    def __init__(self, embedding: int, input_size: Size, width: float) -> None:
        super().__init__()
        grid = final_grid("insightface_mobilefacenet", input_size, stride=16)
        channels, last = scaled(128, width), scaled(512, width)
        layers = [
            _conv(3, channels, 3, 2, 1),
            _conv(channels, channels, 3, 1, 1, groups=channels // 2),
        ]
        for base, hidden_first, hidden, repeats in STAGES:
            channels_in, channels = channels, scaled(base, width)
            layers.append(_bottleneck(channels_in, channels, scaled(hidden_first, width), stride=2))
            layers.append(_residuals(channels, scaled(hidden, width), repeats))
        self.layers = nn.Sequential(*layers)
        self.conv_sep = _conv(channels, last)
        self.features = Chain(
            Chain(*ConvBlock(last, last, grid, groups=last, activation=None)),
            nn.Flatten(),
            nn.Linear(last, embedding, bias=False),
            nn.BatchNorm1d(embedding),
        )
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        return self.features(self.conv_sep(self.layers(x)))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _conv(
    channels_in: int,
    channels: int,
    kernel: int = 1,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
) -> Chain:
    return Chain(*ConvBlock(channels_in, channels, kernel, stride, padding, groups))


def _bottleneck(channels_in: int, channels: int, hidden: int, stride: int) -> Chain:
    """Expand 1x1, depthwise 3x3, project 1x1 (linear); residual at stride 1."""
    return Chain(
        _conv(channels_in, hidden),
        _conv(hidden, hidden, 3, stride, 1, groups=hidden),
        Chain(*ConvBlock(hidden, channels, activation=None)),
        residual=stride == 1,
    )


def _residuals(channels: int, hidden: int, repeats: int) -> Chain:
    return Chain(*[_bottleneck(channels, channels, hidden, stride=1) for _ in range(repeats)])


@register(
    "insightface_mobilefacenet",
    family="insightface_mobilefacenet",
    embedding=512,
    paper=Paper(
        "insightface, arcface_torch, README",
        {"madds": Figure("0.45G", 0.45e9, within=0.03)},
        note="The source calls its multiply-additions FLOPs.",
    ),
)
def insightface_mobilefacenet(embedding: int, input_size: Size, width: float) -> nn.Module:
    """The network of insightface's public "mbf" checkpoints."""
    return InsightfaceMobileFaceNet(embedding, input_size, width)
