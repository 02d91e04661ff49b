"""The ResNets of face recognition ("iresnet"), in insightface's layer order.

Deng et al., ArcFace, 2019; the layout of insightface's arcface_torch: a 3x3 stem of stride 1,
four stages that each halve the map, blocks BN-conv-BN-PReLU-conv(stride)-BN, and the output BN,
dropout, fully connected with bias, BN whose scale stays 1. Module names are insightface's, so its
checkpoints load by name.
"""

from functools import partial

from torch import Tensor, nn

from teachers.layers import PReLU
from teachers.networks import Size, final_grid, register, scaled

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}
BATCH_NORM_EPSILON = 1e-5
BatchNorm2d = partial(nn.BatchNorm2d, eps=BATCH_NORM_EPSILON)


class IBasicBlock(nn.Module):
    """BN-conv-BN-PReLU-conv(stride)-BN, plus the shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.prelu = PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn3 = BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(x)) + shortcut


class IResNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16."""

    after_global = ("fc", "features")

    def __init__(
        self,
        depths: tuple[int, ...],
        embedding: int = 512,
        input_size: Size = (112, 112),
        width: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        grid = final_grid("iresnet", input_size, stride=16)
        channels = [scaled(base, width) for base in (64, 64, 128, 256, 512)]
        self.conv1 = nn.Conv2d(3, channels[0], 3, 1, 1, bias=False)
        self.bn1 = BatchNorm2d(channels[0])
        self.prelu = PReLU(channels[0])
        self.layer1 = _stage(channels[0], channels[1], depths[0])
        self.layer2 = _stage(channels[1], channels[2], depths[1])
        self.layer3 = _stage(channels[2], channels[3], depths[2])
        self.layer4 = _stage(channels[3], channels[4], depths[3])
        self.bn2 = BatchNorm2d(channels[4])
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels[4] * grid[0] * grid[1], embedding)
        self.features = nn.BatchNorm1d(embedding, eps=BATCH_NORM_EPSILON)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.dropout(self.bn2(x)).flatten(1)
        return self.features(self.fc(x))


def _stage(channels_in: int, channels: int, depth: int) -> nn.Sequential:
    blocks = [IBasicBlock(channels_in, channels, stride=2)]
    blocks += [IBasicBlock(channels, channels, stride=1) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


def _initialise(network: IResNet) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.1)
    nn.init.constant_(network.features.weight, 1.0)
    network.features.weight.requires_grad = False


def _register(layers: int) -> None:
    @register(f"iresnet{layers}", family="iresnet", embedding=512)
    def build(embedding: int, input_size: Size, width: float) -> nn.Module:
        return IResNet(DEPTHS[layers], embedding, input_size, width)


for _layers in DEPTHS:
    _register(_layers)
