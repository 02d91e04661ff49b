"""The ResNets of face recognition ("iresnet"), in insightface's layer order.

Deng et al., ArcFace, 2019; the layout of insightface's arcface_torch: a 3x3 stem of stride 1,
four stages that each halve the map, blocks BN-conv-BN-PReLU-conv(stride)-BN, and the output BN,
fully connected with bias, BN with a fixed scale of 1. Module names are insightface's, so its
checkpoints load by name. Its dropout before the fully connected layer is a setting of training:
``distill.training.dropout``.

The variants with squeeze-and-excitation follow its MXNet code (symbol/fresnet.py, unit 3): the gate
comes after the last normalisation of a block, and the epsilon of the normalisation is 2e-5.
"""

from functools import partial

from torch import Tensor, nn

from teachers.layers import PReLU, SqueezeExcite
from teachers.networks import Figure, Paper, Size, final_grid, register, scaled

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}
SE_DEPTHS = {layers: DEPTHS[layers] for layers in (50, 100)}
SE_REDUCTION = 16
EPSILON, SE_EPSILON = 1e-5, 2e-5

ARCFACE = "Deng et al., ArcFace, 2019"
FRESNET = "insightface arcface_mxnet, symbol/fresnet.py"
PAPERS = {
    "iresnet34": Paper(
        ARCFACE,
        {
            "size_mib": Figure("131MB", 131, within=0.01),
            "lfr_flops": Figure("8.3G", 8.3 * 2**30, within=0.005),
        },
        "The figures are Bitmain's (Table 3, LResNet34E-IR), in binary units.",
    ),
    "iresnet100": Paper(
        ARCFACE,
        {
            "size_mib": Figure("248.59MB", 248.59, within=0.001),
            "lfr_flops": Figure("24G", 24e9, within=0.01),
        },
        "The size is insightface's model zoo's, the operations are the challenge's of 2019.",
    ),
    "iresnet_se100": Paper(
        FRESNET,
        {
            "params": Figure("65.5M", 65.5e6, within=0.001),
            "lfr_flops": Figure("24.18G", 24.18e9, within=0.001),
        },
        "The figures are cavaface's for IR-SE-100, whose gates have no bias.",
    ),
}


class IBasicBlock(nn.Module):
    """BN-conv-BN-PReLU-conv(stride)-BN, optionally a gate, plus the shortcut."""

    def __init__(
        self, channels_in: int, channels: int, stride: int, squeeze_excite: bool, epsilon: float
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in, epsilon)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, epsilon)
        self.prelu = PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels, epsilon)
        self.se = SqueezeExcite(channels, SE_REDUCTION) if squeeze_excite else nn.Identity()
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels, epsilon),
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.se(self.bn3(self.conv2(x))) + shortcut


class IResNet(nn.Module):
    """[B, 3, H, W] to raw embeddings [B, embedding]; H and W are multiples of 16."""

    after_global = ("fc", "features")

    def __init__(
        self,
        depths: tuple[int, ...],
        embedding: int = 512,
        input_size: Size = (112, 112),
        width: float = 1.0,
        squeeze_excite: bool = False,
    ) -> None:
        super().__init__()
        grid = final_grid("iresnet", input_size, stride=16)
        channels = [scaled(base, width) for base in (64, 64, 128, 256, 512)]
        epsilon = SE_EPSILON if squeeze_excite else EPSILON
        block = partial(IBasicBlock, squeeze_excite=squeeze_excite, epsilon=epsilon)
        self.conv1 = nn.Conv2d(3, channels[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0], epsilon)
        self.prelu = PReLU(channels[0])
        self.layer1 = _stage(block, channels[0], channels[1], depths[0])
        self.layer2 = _stage(block, channels[1], channels[2], depths[1])
        self.layer3 = _stage(block, channels[2], channels[3], depths[2])
        self.layer4 = _stage(block, channels[3], channels[4], depths[3])
        self.bn2 = nn.BatchNorm2d(channels[4], epsilon)
        self.fc = nn.Linear(channels[4] * grid[0] * grid[1], embedding)
        self.features = nn.BatchNorm1d(embedding, epsilon)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.bn2(x).flatten(1)
        return self.features(self.fc(x))


def _stage(
    block: partial[IBasicBlock], channels_in: int, channels: int, depth: int
) -> nn.Sequential:
    blocks = [block(channels_in, channels, stride=2)]
    blocks += [block(channels, channels, stride=1) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


def _initialise(network: IResNet) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.1)
    nn.init.constant_(network.features.weight, 1.0)
    network.features.weight.requires_grad = False


def _register(name: str, depths: tuple[int, ...], squeeze_excite: bool) -> None:
    source = FRESNET if squeeze_excite else ARCFACE

    @register(name, family="iresnet", embedding=512, paper=PAPERS.get(name, Paper(source)))
    def build(embedding: int, input_size: Size, width: float) -> nn.Module:
        return IResNet(depths, embedding, input_size, width, squeeze_excite=squeeze_excite)


for _layers, _depths in DEPTHS.items():
    _register(f"iresnet{_layers}", _depths, squeeze_excite=False)
for _layers, _depths in SE_DEPTHS.items():
    _register(f"iresnet_se{_layers}", _depths, squeeze_excite=True)
