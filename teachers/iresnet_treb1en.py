"""The ResNets of face recognition in TreB1eN's layer order, and the parts shared with AdaFace's.

TreB1eN/InsightFace_Pytorch, model.py: blocks BN-conv-PReLU-conv(stride)-BN without normalisation
between the first convolution and its PReLU, and a parameter-free shortcut wherever the number of
channels does not change, even if the map is halved. The output is BN, dropout, fully connected with
bias, BN. Module names are that repository's, so its checkpoints load by name; its networks
normalise their output, these do not.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from teachers.layers import PReLU
from teachers.networks import Paper, Size, final_grid, register, scaled

DEPTHS = {50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 152: (3, 8, 36, 3)}
CHANNELS = (64, 128, 256, 512)
SE_REDUCTION = 16
DROPOUT = 0.6

Residual = Callable[[int, int, int], nn.Sequential]
"""From input channels, output channels and stride to the layers of a block besides its shortcut"""


class SEModule(nn.Module):
    """Squeeze-and-excitation without biases and with ReLU, [B, C, H, W] to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // SE_REDUCTION)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * self.fc2(self.relu(self.fc1(means))).sigmoid()


class IRBlock(nn.Module):
    """The layers of ``residual`` plus a shortcut, which has parameters only if necessary."""

    def __init__(self, channels_in: int, channels: int, stride: int, residual: Residual) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if channels_in != channels:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        elif stride != 1:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Identity()
        self.res_layer = residual(channels_in, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class IRBackbone(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16.

    ``affine`` tells whether the last normalisation has a scale and a shift.
    """

    after_global = ("output_layer.3", "output_layer.4")

    def __init__(
        self,
        depths: tuple[int, ...],
        residual: Residual,
        embedding: int,
        input_size: Size,
        width: float,
        dropout: float,
        affine: bool,
    ) -> None:
        super().__init__()
        grid = final_grid("iresnet", input_size, stride=16)
        channels = scaled(CHANNELS[0], width)
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), PReLU(channels)
        )
        blocks = []
        for base, depth in zip(CHANNELS, depths, strict=True):
            for index in range(depth):
                stride = 2 if index == 0 else 1
                blocks.append(IRBlock(channels, scaled(base, width), stride, residual))
                channels = scaled(base, width)
        self.body = nn.Sequential(*blocks)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(channels * grid[0] * grid[1], embedding),
            nn.BatchNorm1d(embedding, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.body(self.input_layer(x)))


def _residual(channels_in: int, channels: int, stride: int, squeeze_excite: bool) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.BatchNorm2d(channels_in),
        nn.Conv2d(channels_in, channels, 3, 1, 1, bias=False),
        PReLU(channels),
        nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]
    if squeeze_excite:
        layers.append(SEModule(channels))
    return nn.Sequential(*layers)


def _register(name: str, depths: tuple[int, ...], squeeze_excite: bool) -> None:
    residual = partial(_residual, squeeze_excite=squeeze_excite)
    paper = Paper("TreB1eN/InsightFace_Pytorch, model.py")

    @register(name, family="iresnet-treb1en", embedding=512, paper=paper)
    def build(embedding: int, input_size: Size, width: float) -> nn.Module:
        return IRBackbone(depths, residual, embedding, input_size, width, DROPOUT, affine=True)


for _layers, _depths in DEPTHS.items():
    _register(f"treb1en_ir{_layers}", _depths, squeeze_excite=False)
    _register(f"treb1en_ir_se{_layers}", _depths, squeeze_excite=True)
